"""The radii of an optimizer, in one transfer to the host per device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ftp_hf.projection.equations import RADIUS_FLOOR
from ftp_hf.projection.exchange import whole_values
from ftp_hf.projection.kernels.dispatch import batches
from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.tensor import ProjectedTensor

__all__ = ["Radius", "radii_of", "raise_radii"]


class Radius(NamedTuple):
    """What [`~ProjectedOptimizer.radii`] says of one parameter."""

    radius: float
    """γ, in units of a row's L1 norm."""
    deviation: float
    """`max_row ‖W − W0‖₁`: how far the parameter is from its anchor, in the same units."""
    on_boundary: float
    """
    Share of the rows that the last step projected onto the ball, in [0, 1]. Of a sharded parameter it is not in the
    checkpoint: NaN from loading one to the next step.
    """


def radii_of(tensors: Sequence[ProjectedTensor | LowRankTensor]) -> dict[str, Radius]:
    """The [`Radius`] of each tensor that has taken a step, by name."""
    distance_of: dict[str, Tensor] = {}
    for part in _parts(tensors):
        for kernels, batch in batches([tensor.widened() for tensor in part]):
            distance_of |= zip((tensor.name for tensor in batch), kernels.distances(batch), strict=True)
    found: dict[str, Radius] = {}
    for device in dict.fromkeys(tensor.weight.device for tensor in tensors):
        here = [tensor for tensor in tensors if tensor.weight.device == device]
        found |= _radii_on_device(here, torch.stack([distance_of[tensor.name] for tensor in here]))
    return {tensor.name: found[tensor.name] for tensor in tensors}


def raise_radii(tensors: Sequence[ProjectedTensor | LowRankTensor]) -> None:
    """
    `γ ← max(γ, max_row ‖W − W0‖₁)`, for weights that are not where the last projection left them. `∇γ` takes each row outside
    its ball for one on it, of a norm of γ: it would be too large by how far outside the row is, 1e8 times for a radius at the
    floor, and the second moment would hold that radius for tens of thousands of steps. Where weights are not finite, the radius
    stays.
    """
    radii = radii_of(tensors)
    for tensor in tensors:
        deviation = radii[tensor.name].deviation
        if math.isfinite(deviation):
            tensor.radius_state.radius.clamp_(min=deviation + RADIUS_FLOOR)


def _parts(tensors: Sequence[ProjectedTensor | LowRankTensor]) -> list[list[ProjectedTensor | LowRankTensor]]:
    """The tensors, so divided that no more than one weight is copied into float32 at once; adapters' factors are small."""
    parts: list[list[ProjectedTensor | LowRankTensor]] = [[]]
    for tensor in tensors:
        if isinstance(tensor, ProjectedTensor) and tensor.weight.dtype == torch.bfloat16:
            parts.append([tensor])
        else:
            parts[0].append(tensor)
    return parts


def _radii_on_device(tensors: Sequence[ProjectedTensor | LowRankTensor], distances: Tensor) -> dict[str, Radius]:
    states = RadiusState.gather([tensor.radius_row for tensor in tensors])
    projected, distances = (
        values.to(states.radius) for values in whole_values(tensors, states.rows_projected.unsqueeze(1), distances)
    )
    # At the floor these are distances from directions: only whether they are finite counts.
    deviations = torch.where((states.at_floor > 0) & distances.isfinite(), 0, distances - RADIUS_FLOOR)
    rows = states.radius.new_tensor([tensor.whole_rows for tensor in tensors])
    # A row that is spread over processes is projected by each of them.
    on_boundary = (projected.squeeze(1) / rows).clamp(max=1)
    table = torch.stack([states.radius, deviations, on_boundary], dim=1).tolist()
    return {tensor.name: Radius(*row) for tensor, row in zip(tensors, table, strict=True)}
