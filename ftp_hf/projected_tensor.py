"""One projected tensor: what a step needs to know of it, and the state that it keeps."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import projection
from .radii import RadiusState

__all__ = ["ProjectedTensor"]

_NARROW_FROM = 2**16
"""Elements from which a tensor is worth the precision that a 16-bit direction costs at the floor."""


class ProjectedTensor(NamedTuple):
    """
    A tensor that takes part in the projection, with its state.

    Between steps only one of the displacement and the anchor has to be kept beside the weight, in one buffer:

    - *Off the floor*, the buffer holds the anchor `W0`, and the displacement is what the weight is away from it.
    - *At the floor* (`γ = 1e-8`, after the first step and whenever the radius returns there), the weight would be within
      1e-8 of its anchor, where float32 cannot tell the displacement from rounding. So the weight is exactly the anchor,
      and the buffer holds the direction `c / ‖c‖₁`, from which the radius learns at the next step. That step starts by
      copying the anchor back.

    In float64, which is for comparing figures and not for large models, anchor and displacement are both kept, and the
    weights are those of the published method to the last digits.

    The buffer is of the narrowest dtype that holds the anchor exactly: bfloat16 or float16 for a checkpoint that was
    saved in it, even if it was loaded as float32.
    """

    name: str
    weight: Tensor
    """The parameter, or the float32 master of a 16-bit one."""
    state: dict[str, Any]
    group: dict[str, Any]
    row_dim: int

    @property
    def gradient(self) -> Tensor:
        """The gradient of this step."""
        if self.weight.grad is None:
            raise ValueError(f"{self.name} has no gradient")
        return self.weight.grad

    @property
    def has_state(self) -> bool:
        """Whether the tensor has taken a step."""
        return "radius" in self.state

    @property
    def held(self) -> Tensor:
        """The buffer: the anchor, or at the floor the direction. The shape of the weight."""
        return self.state["anchor_or_direction"]  # type: ignore[no-any-return]

    @property
    def displacement(self) -> Tensor | None:
        """`c(t−1)`, which only float64 keeps. The shape of the weight."""
        return self.state.get("displacement")

    @property
    def radius_row(self) -> Tensor:
        """The state of the radius, as it is stored: six values."""
        return self.state["radius"]  # type: ignore[no-any-return]

    @property
    def radius_state(self) -> RadiusState:
        """The state of the radius, by name."""
        return RadiusState(*self.radius_row)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.weight.shape[self.row_dim] if self.weight.ndim >= 2 else 1

    def first_state(self, anchor: Tensor | None) -> dict[str, Tensor]:
        """
        The state before the first step.

        Args:
            anchor (`Tensor` or `None`): `W0`; `None` for the weight itself.
        """
        weight = self.weight.detach()
        radius = weight.new_full((), projection.RADIUS_FLOOR)
        if anchor is not None:
            radius = torch.maximum(radius, self._distance(anchor.to(weight)))
        displacement = {"displacement": torch.empty_like(weight)} if weight.dtype == torch.float64 else {}
        return displacement | {
            "anchor_or_direction": _narrowest(torch.empty_like(weight).copy_(weight if anchor is None else anchor)),
            "radius": torch.stack(RadiusState.first(radius)),
        }

    def anchor(self) -> Tensor:
        """`W0`, in the dtype of the buffer."""
        return torch.where(self.radius_state.at_floor > 0, self.weight.detach().to(self.held.dtype), self.held)

    def measure(self) -> Tensor:
        """Radius, deviation and share of projected rows, as [`Radius`] explains them: a tensor of three values."""
        state = self.radius_state
        deviation = self._distance(self.held) - projection.RADIUS_FLOOR
        deviation = torch.where(state.at_floor > 0, 0, deviation)
        return torch.stack([state.radius, deviation, state.rows_projected / self.rows])

    def _distance(self, anchor: Tensor) -> Tensor:
        blocks = projection.row_blocks(self.row_dim, self.weight.detach(), anchor)
        return torch.stack([projection.row_norms(weight - w0, self.row_dim).max() for weight, w0 in blocks]).max()


def _narrowest(anchor: Tensor) -> Tensor:
    if anchor.dtype == torch.float32 and anchor.numel() >= _NARROW_FROM:
        for dtype in (torch.bfloat16, torch.float16):
            narrow = anchor.to(dtype)
            if torch.equal(narrow.to(anchor.dtype), anchor):
                return narrow
    return anchor
