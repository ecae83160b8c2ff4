"""Which parameters take part in the projection."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from torch import Tensor

from ftp_hf.common.names import canonical_name, matches
from ftp_hf.projection.equations import RowDim
from ftp_hf.projection.low_rank_tensor import LowRankTensor, LowRankUpdate
from ftp_hf.projection.tensor import ProjectedTensor

from .checks import check_patterns
from .masters import master_of
from .naming import names_in
from .options import pretrained_rows_of, row_dim_of

__all__ = ["DenseParameter", "Participants"]


class DenseParameter(NamedTuple):
    """A parameter that is projected itself."""

    name: str
    parameter: Tensor
    group: dict[str, Any]
    row_dim: RowDim
    pretrained_rows: int | None
    """How many of the first rows are projected; `None` for all."""


class Participants(NamedTuple):
    """The parameters of an optimizer that are projected, themselves or as factors of an update."""

    groups: Sequence[dict[str, Any]]
    """The param groups."""
    state: Mapping[Tensor, dict[str, Any]]
    """The optimizer's."""
    low_rank: tuple[LowRankUpdate, ...]
    """The updates that may take part."""
    rows: Mapping[str, tuple[int, ...]]
    """The option: patterns of names, and the dimensions that count rows."""
    pretrained_rows: Mapping[str, int]
    """The option: patterns of names, and how many of the first rows have a pre-trained value."""
    members: Set[Tensor] | None = None
    """The parameters that are looked at; all by default."""

    def dense(self) -> Iterator[DenseParameter]:
        """
        The dense parameters that are projected.

        Raises:
            TypeError: patterns that were set in a group since are none.
        """
        factors = {factor for update in self.low_rank for factor in update.factors}
        for number, group in enumerate(self.groups):
            if not group["project"]:
                continue
            check_patterns(group)  # again, because what is in a group can be set at any time
            # A dict, because torch only warns of a parameter that is twice in its group.
            for parameter, name in dict(zip(group["params"], names_in(group, number), strict=True)).items():
                if not self._has(parameter) or not parameter.numel():
                    continue
                if not matches(name, group["exclude"]) and canonical_name(name) not in factors:
                    row_dim = row_dim_of(name, group, self.rows)
                    pretrained_rows = pretrained_rows_of(name, self.pretrained_rows)
                    yield DenseParameter(canonical_name(name), parameter, group, row_dim, pretrained_rows)

    def updates(self) -> tuple[LowRankUpdate, ...]:
        """The low-rank updates that are projected: none of their `rows` is excluded or in a group with `project=False`."""
        named = self._named_parameters()
        return tuple(update for update in self.low_rank if _takes_part(update, named))

    def factors(self) -> set[Tensor]:
        """The parameters that are factors of updates."""
        named = self._named_parameters() if self.low_rank else {}
        return {named[factor][0] for update in self.low_rank for factor in update.factors}

    def with_state(self) -> list[ProjectedTensor | LowRankTensor]:
        """The tensors that have taken a step, with bfloat16 weights where there are no masters."""
        dense = [tensor for tensor in self._dense_tensors() if tensor.has_state]
        return [*dense, *(tensor for tensor in self._low_rank_tensors() if tensor.has_state)]

    def with_gradient(self) -> list[ProjectedTensor | LowRankTensor]:
        """
        The tensors that take part in this step.

        Raises:
            ValueError: a gradient is sparse, or some factors of an update have a gradient and some do not.
        """
        low_rank = [tensor for tensor in self._low_rank_tensors() if tensor.has_gradient]
        dense = [tensor for tensor in self._dense_tensors() if tensor.grad is not None]
        for tensor in dense:
            if tensor.gradient.is_sparse:
                raise ValueError(
                    f"the gradient of {tensor.name} is sparse, and rows without a gradient have no radius gradient: "
                    "create the embedding with sparse=False, or put it in a param group with project=False"
                )
        return [*low_rank, *dense]

    def _dense_tensors(self) -> Iterator[ProjectedTensor]:
        for name, parameter, group, row_dim, pretrained_rows in self.dense():
            # Not `self.state[parameter]`: torch.distributed.checkpoint takes an empty entry for a state.
            state = self.state.get(parameter, {})
            master = master_of(parameter, state)
            trained, stands_for = (parameter, None) if master is None else (master, parameter)
            yield ProjectedTensor.of(name, trained, stands_for, state, group, row_dim, pretrained_rows)

    def _low_rank_tensors(self) -> Iterator[LowRankTensor]:
        if not self.low_rank:
            return
        named = self._named_parameters()
        parameters = {name: parameter for name, (parameter, _) in named.items()}
        masters = {name: master_of(each, self.state.get(each, {})) for name, each in parameters.items()}
        trained = parameters | {name: master for name, master in masters.items() if master is not None}
        for update in self.low_rank:
            parameter, group = named[update.products[0].rows]
            if self._has(parameter) and _takes_part(update, named):
                yield LowRankTensor.of(update, parameters, trained, self.state.get(parameter, {}), group)

    def _has(self, parameter: Tensor) -> bool:
        return self.members is None or parameter in self.members

    def _named_parameters(self) -> dict[str, tuple[Tensor, dict[str, Any]]]:
        """Name → parameter and param group, of all parameters that have a name."""
        for group in self.groups:
            check_patterns(group)
        return {
            canonical_name(name): (parameter, group)
            for group in self.groups
            for name, parameter in zip(group.get("param_names", ()), group["params"], strict=False)
        }


def _takes_part(update: LowRankUpdate, named: Mapping[str, tuple[Tensor, dict[str, Any]]]) -> bool:
    groups = {product.rows: named[product.rows][1] for product in update.products}
    return all(group["project"] and not matches(name, group["exclude"]) for name, group in groups.items())
