"""
Fast Trainable Projection on one screen (Tian et al., NeurIPS 2023, arXiv 2310.19182, section 3), a line per equation.

It is for one parameter tensor, in plain torch, and keeps what the paper keeps. The optimizers of this package take the
same steps with less memory, on shards, in low precision and fast; the tests hold them to this file.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["SGD", "AdamW", "Reference", "norms"]


def over_rows(x: Tensor, row_dim: int | tuple[int, ...] = 0) -> Tensor:
    """The sum over each row: a slice along `row_dim`; a tensor of fewer than two dimensions is one row."""
    rows = (row_dim,) if isinstance(row_dim, int) else row_dim
    return x.sum([dim for dim in range(x.ndim) if dim not in rows], keepdim=True) if x.ndim >= 2 else x.sum()


def norms(c: Tensor, row_dim: int | tuple[int, ...] = 0) -> Tensor:
    """`‖c‖₁` of each row, plus 1e-8. The largest is the MARS norm of `c`."""
    return over_rows(c.abs(), row_dim) + 1e-8


class Unconstrained(Protocol):
    """Any optimizer of one parameter."""

    lr: float

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        """`W̃(t)`, from `W(t−1)` and `g(t)`."""


@dataclass
class Reference:
    """One parameter `w`, whose first value is its anchor `W0`, and the projection around the steps of `unconstrained`."""

    w: Tensor
    unconstrained: Unconstrained
    kappa: float = 1.0
    mu: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    row_dim: int | tuple[int, ...] = 0
    rho: float | None = None

    def __post_init__(self) -> None:
        self.t = 0
        self.w0 = self.w.clone()
        self.c = torch.zeros_like(self.w)  # so that the first step learns nothing
        self.gamma = self.w.new_tensor(1e-8)
        self.m = self.v = torch.zeros_like(self.gamma)

    def step(self, g: Tensor) -> None:
        """Step `t`, with the gradient `g(t)` of the loss at `W(t−1)`."""
        self.t += 1
        self._learn((over_rows(g * self.c, self.row_dim) / norms(self.c, self.row_dim)).sum())
        self.c = self.unconstrained.step(self.w, g) - self.w0
        self.gamma = self.gamma.clamp(min=1e-8).minimum(norms(self.c, self.row_dim).max())
        self.scale = (self.gamma / norms(self.c, self.row_dim)).clamp(max=1)
        self.w = self.w0 + self.scale * self.c

    def _learn(self, gradient: Tensor) -> None:
        beta1, beta2 = self.betas
        gradient = torch.where(gradient > 0, self.kappa * gradient, gradient)
        self.m = beta1 * self.m + (1 - beta1) * gradient
        self.v = beta2 * self.v + (1 - beta2) * gradient**2
        m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        self.gamma = self.gamma - self._rate() * m_hat / (v_hat.sqrt() + 1e-8)

    def _rate(self) -> float:
        """μ, or `ρ · lr · n`: a share of what a row of `n` entries moves by if each of them moves by `lr`."""
        if self.rho is None:
            return self.mu
        return self.rho * self.unconstrained.lr * over_rows(torch.ones_like(self.w), self.row_dim).max().item()

    @property
    def deviation(self) -> float:
        """`max_row ‖W − W0‖₁`."""
        return over_rows((self.w - self.w0).abs(), self.row_dim).max().item()

    @property
    def on_boundary(self) -> float:
        """Share of the rows that the last step projected."""
        return (self.scale < 1).double().mean().item()


@dataclass
class AdamW:
    """Loshchilov and Hutter's AdamW."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    t: int = field(default=0, init=False)
    m: Tensor | float = field(default=0.0, init=False)
    v: Tensor | float = field(default=0.0, init=False)

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        """One step, for its weights."""
        beta1, beta2 = self.betas
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        return w * (1 - self.lr * self.weight_decay) - self.lr * m_hat / (v_hat**0.5 + self.eps)


@dataclass
class SGD:
    """Stochastic gradient descent with momentum."""

    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    buffer: Tensor | float = field(default=0.0, init=False)

    def step(self, w: Tensor, g: Tensor) -> Tensor:
        """One step, for its weights."""
        g = g + self.weight_decay * w
        self.buffer = self.momentum * self.buffer + g
        return w - self.lr * (g + self.momentum * self.buffer if self.nesterov else self.buffer)
