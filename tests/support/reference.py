"""The slow reference: the method of the paper (arXiv 2310.19182, section 3), one line per equation, in numpy."""

import math
from dataclasses import dataclass, field

import numpy as np


def rows(x, row_dim=0):
    """The tensor as a matrix of its rows: slices along `row_dim`; fewer than two dimensions are one row."""
    return np.moveaxis(x, row_dim, 0).reshape(x.shape[row_dim], -1) if x.ndim >= 2 else x.reshape(1, -1)


def unrows(matrix, shape, row_dim=0):
    """The inverse of `rows`."""
    if len(shape) < 2:
        return matrix.reshape(shape)
    moved = (shape[row_dim], *shape[:row_dim], *shape[row_dim + 1 :])
    return np.moveaxis(matrix.reshape(moved), 0, row_dim)


def norms(c):
    """`‖c‖₁ + 1e-8` of every row of the matrix."""
    return np.abs(c).sum(axis=1) + 1e-8


@dataclass
class AdamW:
    """Loshchilov and Hutter's AdamW, for one parameter."""

    lr: float = 1e-3
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    t: int = 0
    m: np.ndarray | float = 0.0
    v: np.ndarray | float = 0.0

    def step(self, w, g):
        beta1, beta2 = self.betas
        self.t += 1
        w = w * (1 - self.lr * self.weight_decay)
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat = self.m / (1 - beta1**self.t)
        v_hat = self.v / (1 - beta2**self.t)
        return w - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


@dataclass
class SGD:
    """Stochastic gradient descent with momentum, for one parameter."""

    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    buffer: np.ndarray | None = None

    def step(self, w, g):
        g = g + self.weight_decay * w
        self.buffer = g if self.buffer is None else self.momentum * self.buffer + g
        return w - self.lr * (g + self.momentum * self.buffer if self.nesterov else self.buffer)


@dataclass
class Reference:
    """Fast Trainable Projection of one parameter `w` around the `unconstrained` step."""

    w: np.ndarray
    unconstrained: AdamW | SGD = field(default_factory=AdamW)
    kappa: float = 1.0
    mu: float = 1e-2
    betas: tuple = (0.9, 0.999)
    row_dim: int = 0
    maximize: bool = False
    t: int = 0
    gamma: float = 1e-8
    m: float = 0.0
    v: float = 0.0
    on_boundary: float = 0.0
    w0: np.ndarray = None
    c: np.ndarray = None

    def __post_init__(self):
        self.w0 = self.w.copy()

    def step(self, g):
        g = -g if self.maximize else g
        beta1, beta2 = self.betas
        self.t += 1
        if self.t > 1:
            grad = float(((rows(g, self.row_dim) * self.c).sum(axis=1) / norms(self.c)).sum())
            grad = self.kappa * grad if grad > 0 else grad
            self.m = beta1 * self.m + (1 - beta1) * grad
            self.v = beta2 * self.v + (1 - beta2) * grad**2
            m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
            self.gamma -= self.mu * m_hat / (math.sqrt(v_hat) + 1e-8)
        self.c = rows(self.unconstrained.step(self.w, g) - self.w0, self.row_dim)
        self.gamma = float(np.clip(self.gamma, 1e-8, norms(self.c).max()))
        scale = np.minimum(1.0, self.gamma / norms(self.c))
        self.on_boundary = float((scale < 1).mean())
        self.w = self.w0 + unrows(scale[:, None] * self.c, self.w.shape, self.row_dim)

    @property
    def deviation(self):
        return float(np.abs(rows(self.w - self.w0, self.row_dim)).sum(axis=1).max())
