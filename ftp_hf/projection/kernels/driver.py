"""The half of a step that follows the unconstrained one, whatever computes the rows: radii are learned before, settled after."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.rates import radius_rates
from ftp_hf.projection.tensor import ProjectedTensor

__all__ = ["project_at_radii"]


def project_at_radii(
    project_rows: Callable[[Tensor], tuple[Tensor, Tensor]],
    batch: Sequence[ProjectedTensor] | Sequence[LowRankTensor],
    gradients: Tensor | None,
    largest: Tensor | None,
    *,
    reaches: Callable[[torch.dtype], Tensor],
    can_rest: bool = True,
) -> None:
    """
    Learn the radii, project every tensor onto its ball, and settle the radii.

    Args:
        project_rows (`Callable`): projects the rows of every tensor; takes the radii, and returns the largest row norm of
            each tensor (of the part that is here, before the projection) and how many rows it projected.
        batch (sequence of tensors): of one param group, after the unconstrained step.
        gradients (`Tensor` or `None`): `∇γ(t)`, one value per tensor; `None` at the first step.
        largest (`Tensor` or `None`): the largest row norm of each whole tensor, for tensors that are sharded.
        reaches (`Callable`): dtype → the reach of each tensor ([`radius_rates`]); called if radii learn by a share.
        can_rest (`bool`, *optional*, defaults to `True`): whether tensors at the floor rest at their anchors
            ([`rests_at_anchor`]).
    """
    rows = [tensor.radius_row for tensor in batch]
    radii = RadiusState.gather(rows)
    if gradients is not None:
        group = batch[0].group
        radii = radii.learned(gradients, radius_rates(group, reaches, radii.radius.dtype), group)
    found, projected = project_rows(radii.radius)
    radii.settled(found if largest is None else largest, projected, can_rest=can_rest).scatter(rows)
