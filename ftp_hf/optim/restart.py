"""What an optimizer that goes on takes to its next stage: radii that start anew, and parameters that got more rows."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.projection.equations import RADIUS_FLOOR
from ftp_hf.projection.radius import RADIUS, RadiusState

from .base import ProjectedOptimizer
from .radii import raise_radii
from .rounding import MASTER

__all__ = ["lengthen_states", "restart_radii"]


@torch.no_grad()
def restart_radii(optimizer: ProjectedOptimizer) -> None:
    """
    Have the radii forget what they learnt: each is again as far as its tensor is from its anchor, and its moments are zero,
    as those of an optimizer that was built just now on these weights, around the same anchors.

    Args:
        optimizer (`ProjectedOptimizer`): between two steps.
    """
    tensors = optimizer._participants.with_state()
    for tensor in tensors:
        before = tensor.radius_state
        start = RadiusState.first(torch.full_like(before.radius, RADIUS_FLOOR))
        kept = start._replace(at_floor=before.at_floor, rows_projected=before.rows_projected)
        tensor.radius_row.copy_(torch.stack(kept))
    raise_radii(tensors)


@torch.no_grad()
def lengthen_states(optimizer: Optimizer) -> dict[Tensor, int]:
    """
    Give the state of parameters that got more rows zeros for them, and masters the new rows themselves. The anchors of new
    rows are zero too: they are not to be projected.

    Args:
        optimizer (`Optimizer`): whose parameters were made longer in place, or whose state was saved before they were.

    Returns:
        `dict[Tensor, int]`: of the parameters that got more rows, how many they had.
    """
    rows: dict[Tensor, int] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim == parameter.ndim > 0 and key != RADIUS:
                missing = parameter.shape[0] - value.shape[0]
                if missing > 0 and value.shape[1:] == parameter.shape[1:]:
                    rows[parameter] = value.shape[0]
                    new = parameter.detach()[-missing:].to(value)
                    state[key] = torch.cat([value, new if key == MASTER else torch.zeros_like(new)])
    return rows
