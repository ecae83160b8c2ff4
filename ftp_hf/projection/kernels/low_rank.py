"""The projection of low-rank updates, on any device: the equations of [`low_rank`] between the two halves of a step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ftp_hf.projection import equations
from ftp_hf.projection.low_rank import inner_products
from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.sharding import whole_tensors

from .driver import project_at_radii

__all__ = ["ROUNDS_MASTERS", "TAKES_ADAMW_STEPS", "distances", "project", "radius_gradients"]

ROUNDS_MASTERS = False
TAKES_ADAMW_STEPS = False


def radius_gradients(batch: Sequence[LowRankTensor]) -> Tensor:
    """`∇γ(t)` of every update, as in [`eager.radius_gradients`]."""
    norms = _row_norms(batch, _whole_columns(batch))
    return torch.stack([_radius_gradient(*each) for each in zip(batch, norms, strict=True)])


def project(batch: Sequence[LowRankTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """Learn the radii and project every update, as in [`eager.project`]."""
    columns = _whole_columns(batch)

    def project_rows(radii: Tensor) -> tuple[Tensor, Tensor]:
        norms = _row_norms(batch, columns)
        results = [_project(*each) for each in zip(batch, norms, radii, strict=True)]
        return torch.stack([found for found, _ in results]), torch.stack([projected for _, projected in results])

    def reaches(dtype: torch.dtype) -> Tensor:
        found = torch.stack([tensor.reach(whole) for tensor, whole in zip(batch, columns, strict=True)])
        # Where the optimizer diverged, the radius keeps still.
        return found.to(dtype).nan_to_num(nan=0.0, posinf=0.0)

    # The factors keep the direction at the floor, so that the update never has to rest at its anchor.
    project_at_radii(project_rows, batch, gradients, largest, reaches=reaches, can_rest=False)


def distances(batch: Sequence[LowRankTensor]) -> Tensor:
    """The largest row norm of each update, as in [`eager.distances`]."""
    return torch.stack([_max(norms) for norms in _row_norms(batch, _whole_columns(batch))])


def _whole_columns(batch: Sequence[LowRankTensor]) -> list[list[Tensor]]:
    """
    The right factors of each update. Every process has rows of the left factors, but needs the whole right ones: those of a
    sharded batch arrive together.
    """
    whole = iter(whole_tensors([columns for tensor in batch for columns in tensor.columns]))
    return [[next(whole) for _ in tensor.columns] for tensor in batch]


def _row_norms(batch: Sequence[LowRankTensor], columns: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """`‖ΔW‖₁` of the rows that this process has."""
    return [tensor.row_norms(whole) for tensor, whole in zip(batch, columns, strict=True)]


def _radius_gradient(tensor: LowRankTensor, norms: Tensor) -> Tensor:
    products = [
        inner_products(gradient.to(rows), rows)
        for gradient, rows in zip(tensor.gradient_views(), tensor.row_views(), strict=True)
    ]
    return (sum(products[1:], products[0]) / norms.clamp(max=tensor.radius_state.radius)).sum()


def _project(tensor: LowRankTensor, norms: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    outside = equations.projected_rows(radius, norms)
    factors = torch.where(outside, radius / norms, 1)
    for rows in tensor.row_views():
        rows.mul_(factors.unsqueeze(2))
    return _max(norms), outside.sum().to(radius)


def _max(norms: Tensor) -> Tensor:
    """0-D; 0 where this process has no rows."""
    return torch.cat([norms.new_zeros(1), norms.flatten()]).max()
