"""What an optimizer that goes on takes to its next stage: radii that start again, and parameters that got more rows."""

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
    Make the radii forget what they learned: each is again as far as its tensor is from its anchor, and its moments are zero, as
    in an optimizer that was just built on these weights, around the same anchors. Call it between two steps.
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
    Give the state of parameters that got more rows in place, or after it was saved, zeros for them, and masters the new rows
    themselves. The anchors of new rows are zero too: they are not projected. Returns how many rows each of these parameters
    had.
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
