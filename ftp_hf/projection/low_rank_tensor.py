"""One low-rank update that is projected: what it is made of, and what a step needs to know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .low_rank import row_norms
from .radius import RADIUS, RadiusState, WithRadius
from .sharding import Sharding, local

__all__ = ["LowRankProduct", "LowRankTensor", "LowRankUpdate"]


class LowRankProduct(NamedTuple):
    """
    A product of two factors that is added to a weight: `ΔW = scaling · rows · columns`, as a matrix of output units.

    By default the factors are those of LoRA: `rows` is its `B` of shape (rows, rank), `columns` its `A` of shape
    (rank, columns); kernels of a convolution count as columns.
    """

    rows: str
    """The name of the trained parameter whose rows are those of the update: what is scaled."""
    columns: str | Tensor
    """The name of the other factor, or the factor itself if it is not trained."""
    scaling: float = 1.0
    transposed: bool = False
    """Whether both factors are stored transposed, as for embeddings, whose rows are tokens: `rows` is (rank, tokens)."""
    blocks: int = 1
    """How many matrices are stacked, as for a mixture of experts: `rows` is (rows, rank · blocks), the experts innermost,
    and `columns` (blocks · rank, columns)."""
    bases: tuple[Tensor, Tensor] | None = None
    """Fixed matrices, (rows, rank) and (rank, columns), of which the factors scale the rows, as for VeRA: the factors are
    vectors."""

    def row_views(self, rows: Tensor) -> Tensor:
        """`rows`, or its gradient, as (blocks, rows, rank): a view, through which the rows are scaled."""
        if self.transposed:
            return rows.t().unsqueeze(0)
        return rows.view(rows.shape[0], -1, self.blocks).permute(2, 0, 1)

    def matrices(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """`L` (blocks, rows, rank) and `R` (blocks, rank, columns), whose product is the update."""
        left = self.row_views(rows) * self.scaling
        if self.bases is not None:
            left = left * self.bases[0].to(left)
        return left, self._right(columns, left)

    def reach(self, rows: Tensor, columns: Tensor) -> Tensor:
        """
        How far a row of the update goes at most, in L1 norm, if each entry of `rows` moves by one: `s · Σ_r ‖R_r‖₁`, of the
        block, and with `bases` of the row, that goes farthest.

        Args:
            rows (`Tensor`): of the dtype and on the device that are wanted.
            columns (`Tensor`): the other factor, whole.

        Returns:
            `Tensor`: 0-D.
        """
        lengths = self._right(columns, rows).abs().sum(dim=2)
        if self.bases is not None:
            lengths = lengths * self.bases[0].to(rows).abs()
        return abs(self.scaling) * lengths.sum(dim=1).max()

    def _right(self, columns: Tensor, like: Tensor) -> Tensor:
        """`R`, (blocks, rank, columns), in the dtype and on the device of another tensor."""
        if self.transposed:
            right = columns.t().unsqueeze(0)
        else:
            # Not flatten(1), which a vector does not have.
            right = columns.reshape(self.blocks, columns.shape[0] // self.blocks, -1)
        return (right if self.bases is None else right * self.bases[1].to(like)).to(like)


class LowRankUpdate(NamedTuple):
    """What adapters add to one weight, which has one radius: the sum of the products."""

    name: str
    """What [`~ProjectedOptimizer.radii`] calls it: the name of the weight in the model without adapters."""
    products: tuple[LowRankProduct, ...]

    @property
    def factors(self) -> set[str]:
        """The names of the trained parameters in it."""
        names = (name for product in self.products for name in (product.rows, product.columns))
        return {name for name in names if isinstance(name, str)}


@dataclass(eq=False)
class LowRankTensor(WithRadius):
    """
    A low-rank update that takes part in the projection, with its state: what [`ProjectedTensor`] is for a dense weight.

    The state, the six values of the radius, is that of the first product's `rows`. There is no other.
    """

    update: LowRankUpdate
    rows: tuple[Tensor, ...]
    """The row factor of each product, or the float32 master of a 16-bit one. The whole factor, if it is sharded."""
    gradients: tuple[Tensor | None, ...]
    """Those of [`rows`]; of a master, in the dtype of the parameter that it stands in for."""
    columns: tuple[Tensor, ...]
    source: Tensor
    """The parameter whose state that of the update is: the first of [`rows`], or the one that a master stands in for."""
    state: dict[str, Any]
    group: dict[str, Any]
    sharding: Sharding | None

    @classmethod
    def of(
        cls,
        update: LowRankUpdate,
        parameters: Mapping[str, Tensor],
        trained: Mapping[str, Tensor],
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> "LowRankTensor":
        """
        The update, with the factors that it has now. Call it with gradients disabled. `trained` has the parameters or their
        masters, `state` is that of the first product's `rows`.

        Raises:
            ValueError: a factor is sharded through the rows of the update, or it scales rows that are not sharded with it.
        """
        rows = tuple(trained[product.rows] for product in update.products)
        columns = tuple(
            trained[product.columns] if isinstance(product.columns, str) else product.columns
            for product in update.products
        )
        shardings = [
            Sharding.of(product.rows, factor, row_dim=int(product.transposed))
            for product, factor in zip(update.products, rows, strict=True)
        ]
        if shardings[0] is not None and any(product.bases for product in update.products):
            raise ValueError(
                f"{update.products[0].rows} is sharded, but the matrix whose rows it scales is not: train with DDP, or put "
                "it in a param group with project=False"
            )
        sources = [parameters[product.rows] for product in update.products]
        gradients = tuple(source.grad for source in sources)
        return cls(update, rows, gradients, columns, sources[0], state, group, shardings[0])

    @property
    def name(self) -> str:
        """What errors and [`~ProjectedOptimizer.radii`] call it."""
        return self.update.name

    @property
    def parameter(self) -> Tensor:
        """The first of the row factors, or its master."""
        return self.rows[0]

    @property
    def weight(self) -> Tensor:
        """The part of it that this process has."""
        return local(self.parameter)

    @property
    def has_gradient(self) -> bool:
        """
        Whether the update takes part in this step.

        Raises:
            ValueError: some of its products do and some do not, so that its row norms say nothing of what was evaluated.
        """
        products = zip(self.update.products, self.gradients, strict=True)
        without = [product.rows for product, gradient in products if gradient is None]
        if without and len(without) < len(self.rows):
            raise ValueError(
                f"the adapters of {self.name} are projected together, but {', '.join(without)} has no gradient: train "
                "with the adapters active that were active when the optimizer was built, or build another one"
            )
        return not without

    @property
    def whole_rows(self) -> int:
        """The number of rows of the update."""
        return self.update.products[0].blocks * self.parameter.shape[int(self.update.products[0].transposed)]

    def with_state(self, state: dict[str, Any]) -> "LowRankTensor":
        """The update with another state."""
        return replace(self, state=state)

    def widened(self) -> "LowRankTensor":
        """The update with copies of bfloat16 [`rows`] in float32, which the other factors follow."""
        return replace(self, rows=tuple(rows.float() if rows.dtype == torch.bfloat16 else rows for rows in self.rows))

    def row_views(self) -> list[Tensor]:
        """The rows of each product that this process has, (blocks, rows, rank), to be scaled in place."""
        return [
            product.row_views(local(rows).detach())
            for product, rows in zip(self.update.products, self.rows, strict=True)
        ]

    def gradient_views(self) -> list[Tensor]:
        """The gradients of [`row_views`]."""
        gradients = [gradient for gradient in self.gradients if gradient is not None]
        return [
            product.row_views(local(gradient).contiguous())
            for product, gradient in zip(self.update.products, gradients, strict=True)
        ]

    def row_norms(self, columns: Sequence[Tensor]) -> Tensor:
        """
        `‖ΔW‖₁` of the rows that this process has, plus 1e-8: (blocks, rows).

        Args:
            columns (sequence of `Tensor`): the right factor of each product, whole: [`columns`] may be sharded.
        """
        lefts, rights = [], []
        for product, rows, whole in zip(self.update.products, self.rows, columns, strict=True):
            left, right = product.matrices(local(rows).detach(), whole.detach())
            lefts.append(left)
            rights.append(right)
        if len(lefts) == 1:
            return row_norms(lefts[0], rights[0])
        return row_norms(torch.cat(lefts, dim=2), torch.cat(rights, dim=1))

    def reach(self, columns: Sequence[Tensor]) -> Tensor:
        """
        How far a row of the update goes at most if each entry of [`rows`] moves by one: 0-D. It is the same on all processes.

        Args:
            columns (sequence of `Tensor`): as for [`row_norms`].
        """
        reaches = [
            product.reach(self.weight.detach(), whole.detach())
            for product, whole in zip(self.update.products, columns, strict=True)
        ]
        return sum(reaches[1:], reaches[0])

    def first_state(self, radius: Tensor) -> dict[str, Tensor]:
        """
        The state before the first step.

        Args:
            radius (`Tensor`): γ, 0-D: how far the whole update is from zero.
        """
        return {RADIUS: torch.stack(RadiusState.first(radius.to(self.weight)))}
