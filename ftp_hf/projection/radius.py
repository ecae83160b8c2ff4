"""The state of the radii: how it starts, one Adam step on it, and what the projection settles in it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import equations

__all__ = ["RADIUS", "RadiusState", "WithRadius"]

RADIUS = "radius"
"""The key of a [`RadiusState`] in the optimizer's state."""


class RadiusState(NamedTuple):
    """
    What is kept of a radius, in the dtype of the weights. The fields are 0-D for the radius of one tensor, and of shape
    `(n,)` for those of a batch. In the optimizer's state they are one tensor, in this order.
    """

    radius: Tensor
    """γ."""
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor
    """Steps for which the tensor had a gradient."""
    at_floor: Tensor
    """1 where the tensor rests at its anchor, else 0 ([`rests_at_anchor`])."""
    rows_projected: Tensor
    """How many rows the last step projected."""

    @classmethod
    def first(cls, radius: Tensor) -> "RadiusState":
        """The state before the first step, which has nothing to learn from but counts as step 1."""
        zero = torch.zeros_like(radius)
        return cls(radius, zero, zero, torch.ones_like(radius), zero, zero)

    @classmethod
    def gather(cls, rows: Sequence[Tensor]) -> "RadiusState":
        """The states of a batch, from the tensors in the optimizer's state. They share a device and a dtype."""
        return cls(*torch.stack(list(rows), dim=1))

    def scatter(self, rows: Sequence[Tensor]) -> None:
        """Write the states of a batch to the tensors that they were gathered from."""
        torch._foreach_copy_(list(rows), list(torch.stack(self, dim=1).unbind()))

    def learned(self, gradients: Tensor, rates: float | Tensor, group: dict[str, Any]) -> "RadiusState":
        """
        One Adam step on every radius, which is not clipped to the largest row norm yet, from `∇γ(t)`, one value per tensor, and
        the learning rates of [`radius_rates`].
        """
        radius, exp_avg, exp_avg_sq = equations.radius_adam_step(
            self.radius,
            -gradients if group.get("maximize", False) else gradients,
            self.exp_avg,
            self.exp_avg_sq,
            self.step + 1,
            lr=rates,
            betas=group["radius_betas"],
            kappa=group["kappa"],
        )
        return self._replace(
            radius=radius.clamp(min=equations.RADIUS_FLOOR),
            exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq,
            step=self.step + 1,
        )

    def settled(self, largest: Tensor, rows_projected: Tensor, *, can_rest: bool = True) -> "RadiusState":
        """
        Clip every radius, and note what the projection did.

        Args:
            largest (`Tensor`): the largest row norm of the displacement, one value per tensor.
            rows_projected (`Tensor`): how many rows were projected, one value per tensor.
            can_rest (`bool`, *optional*, defaults to `True`): whether tensors at the floor rest at their anchors
                ([`rests_at_anchor`]).
        """
        rests = equations.rests_at_anchor(self.radius) if can_rest else torch.zeros_like(self.radius)
        return self._replace(
            radius=equations.clip_radius(self.radius, largest),
            at_floor=rests.to(self.radius.dtype),
            rows_projected=rows_projected,
        )


class WithRadius:
    """What has one radius: a dense tensor, or a low-rank update."""

    state: dict[str, Any]
    """The optimizer's, of the parameter."""

    @property
    def has_state(self) -> bool:
        """Whether it has taken a step."""
        return RADIUS in self.state

    @property
    def radius_row(self) -> Tensor:
        """The state of the radius, as it is stored: six values."""
        return self.state[RADIUS]  # type: ignore[no-any-return]

    @property
    def radius_state(self) -> RadiusState:
        """The state of the radius, by name."""
        return RadiusState(*self.radius_row)
