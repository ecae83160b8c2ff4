"""The half of a step that follows the unconstrained one, whatever computes the rows: radii are learned before, settled after."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.tensor import ProjectedTensor

__all__ = ["project_at_radii"]

_T = TypeVar("_T", ProjectedTensor, LowRankTensor)


def project_at_radii(
    project_rows: Callable[[Sequence[_T], Tensor, Tensor | None], tuple[Tensor, Tensor]],
    batch: Sequence[_T],
    gradients: Tensor | None,
    largest: Tensor | None,
    *,
    can_rest: bool = True,
) -> None:
    """
    Learn the radii, project every tensor onto its ball, and settle the radii.

    Args:
        project_rows (`Callable`): projects the rows of every tensor; takes the batch, the radii and `largest`, and
            returns the largest row norm of each tensor (of the part that is here, before the projection) and how many
            rows it projected.
        batch (sequence of tensors): of one param group, after the unconstrained step.
        gradients (`Tensor` or `None`): `∇γ(t)`, one value per tensor; `None` at the first step.
        largest (`Tensor` or `None`): the largest row norm of each whole tensor, for tensors that are sharded.
        can_rest (`bool`, *optional*, defaults to `True`): whether tensors at the floor rest at their anchors
            ([`rests_at_anchor`]).
    """
    rows = [tensor.radius_row for tensor in batch]
    radii = RadiusState.gather(rows)
    if gradients is not None:
        radii = radii.learned(gradients, batch[0].group)
    found, projected = project_rows(batch, radii.radius, largest)
    radii.settled(found if largest is None else largest, projected, can_rest=can_rest).scatter(rows)
