"""The projection as it was published: eager, out of place, tensor by tensor, with the displacement stored."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from ftp_hf import FTPAdamW

_FLOOR = 1e-8


class PublishedFTP(AdamW):
    """
    Fast Trainable Projection (arXiv 2310.19182, section 3) after a foreach AdamW step, written from the equations.

    Each parameter keeps its anchor `W0`, the displacement `c(t−1)`, and its radius with two moments as 0-D tensors:
    24 bytes a parameter in float32. Nothing waits for the device.

    Args:
        params (iterable): tensors or `(name, tensor)` pairs. Each must have a gradient at every step.
        lr (`float`): of AdamW, without weight decay.
        kappa, radius_lr, radius_betas: as for [`FTPAdamW`].
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        kappa: float = 1.0,
        radius_lr: float = 1e-2,
        radius_betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(params, lr, weight_decay=0.0, foreach=True)
        self.defaults.update(kappa=kappa, radius_lr=radius_lr, radius_betas=radius_betas)
        for group in self.param_groups:
            group.update(kappa=kappa, radius_lr=radius_lr, radius_betas=radius_betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        anchors = [p.detach().clone() for p in self._parameters() if "anchor" not in self.state[p]]
        for group in self.param_groups:
            for p in group["params"]:
                if "anchor" in self.state[p]:
                    _learn_radius(self.state[p], p.grad, group)
        new = [p for p in self._parameters() if "anchor" not in self.state[p]]
        super().step(closure)
        for p, anchor in zip(new, anchors, strict=True):
            radius = torch.full((), _FLOOR, device=p.device)
            zero = torch.zeros_like(radius)
            self.state[p] |= {"anchor": anchor, "radius": radius, "radius_m": zero, "radius_v": zero, "radius_t": 1}
        for p in self._parameters():
            _project(p, self.state[p])

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def row_sums(x: Tensor) -> Tensor:
    """Sum of each row, with its dimensions kept. A tensor of fewer than two dimensions is one row."""
    return x.sum(dim=list(range(1, x.ndim)), keepdim=True) if x.ndim >= 2 else x.sum()


def _learn_radius(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> None:
    beta1, beta2 = group["radius_betas"]
    c = state["displacement"]
    slope = (row_sums(gradient * c) / (row_sums(c.abs()) + _FLOOR)).sum()
    slope = torch.where(slope > 0, group["kappa"] * slope, slope)
    state["radius_t"] += 1
    state["radius_m"] = beta1 * state["radius_m"] + (1 - beta1) * slope
    state["radius_v"] = beta2 * state["radius_v"] + (1 - beta2) * slope**2
    m = state["radius_m"] / (1 - beta1 ** state["radius_t"])
    v = state["radius_v"] / (1 - beta2 ** state["radius_t"])
    state["radius"] = state["radius"] - group["radius_lr"] * m / (v.sqrt() + 1e-8)


def _project(p: Tensor, state: dict[str, Any]) -> None:
    c = p - state["anchor"]
    norms = row_sums(c.abs()) + _FLOOR
    state["radius"] = torch.minimum(state["radius"].clamp(min=_FLOOR), norms.max())
    p.copy_(state["anchor"] + (state["radius"] / norms).clamp(max=1.0) * c)
    state["displacement"] = c


def check_same_trajectory(device: str, seed: int = 0, steps: int = 40, tolerance: float = 1e-5) -> float:
    """
    Train the same small tensors with `PublishedFTP` and [`FTPAdamW`].

    Returns:
        `float`: the largest difference between their weights at any step.

    Raises:
        RuntimeError: the difference is above `tolerance`.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    start = [0.02 * random(shape) for shape in ((64, 300), (64,), (16, 3, 8, 8), (1, 20, 64))]
    drift = [random(w.shape) for w in start]
    weights = [[w.clone().requires_grad_() for w in start] for _ in range(2)]
    optimizers = [PublishedFTP(weights[0], lr=1e-3), FTPAdamW(weights[1], lr=1e-3, fused=True)]
    worst = 0.0
    for _ in range(steps):
        for one, other, direction in zip(*weights, drift, strict=True):
            one.grad = direction + 2 * random(direction.shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        worst = max(worst, *(float((a - b).detach().abs().max()) for a, b in zip(*weights, strict=True)))
    if worst > tolerance:
        raise RuntimeError(f"the published method and FTPAdamW differ by {worst:.2e}, which is above {tolerance:.0e}")
    return worst
