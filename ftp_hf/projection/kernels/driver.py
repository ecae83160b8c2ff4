"""The half of a step that follows the unconstrained one, whatever computes the rows: radii are learned before, settled after."""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.rates import radius_rates
from ftp_hf.projection.tensor import ProjectedTensor

__all__ = ["project_at_radii"]

_T = TypeVar("_T", ProjectedTensor, LowRankTensor)


def project_at_radii(
    project_rows: Callable[[Sequence[_T], Tensor, Tensor | None], tuple[Tensor, Tensor]],
    batch: Sequence[_T],
    gradients: Tensor | None,
    largest: Tensor | None,
    *,
    reaches: Callable[[Sequence[_T], torch.dtype], Tensor],
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
        reaches (`Callable`): the reach of each tensor ([`radius_rates`]), in a dtype; called if radii learn by a share.
        can_rest (`bool`, *optional*, defaults to `True`): whether tensors at the floor rest at their anchors
            ([`rests_at_anchor`]).
    """
    rows = [tensor.radius_row for tensor in batch]
    radii = RadiusState.gather(rows)
    if gradients is not None:
        group = batch[0].group
        rates = radius_rates(group, functools.partial(reaches, batch, radii.radius.dtype))
        radii = radii.learned(gradients, rates, group)
    found, projected = project_rows(batch, radii.radius, largest)
    radii.settled(found if largest is None else largest, projected, can_rest=can_rest).scatter(rows)
