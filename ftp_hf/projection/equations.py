"""Fast Trainable Projection as pure tensor functions (Tian et al., NeurIPS 2023, arXiv 2310.19182, section 3).

Symbols of the paper and their names here, for one parameter tensor:

| paper  | here           | what it is                                                            |
| ------ | -------------- | --------------------------------------------------------------------- |
| `W0`   | `anchor`       | the pre-trained weights                                               |
| `W̃(t)` | `weight`       | the weights after the unconstrained step                              |
| `c(t)` | `displacement` | `W̃(t) − W0`, before projection                                        |
| `d(t)` | `displacement` | `W(t) − W0`, after projection: the rows of `c(t)` scaled back to `γ`    |
| `γ`    | `radius`       | the learned bound on the MARS norm of `W − W0`, one scalar per tensor |
| `κ`    | `kappa`        | factor on radius gradients that would shrink the radius               |
| `μ`    | `lr`           | learning rate of the radius                                           |

A *row* is what computes one output unit: a slice along `row_dim`, the dimension that counts rows, or the dimensions that
count them together (in a stack of matrices, one per expert: which expert, and which of its outputs). It is dimension 0
unless the layer stores its weight otherwise. A tensor of fewer than two dimensions is a single row. Row reductions keep
their dimensions, so that their results broadcast against the tensor.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "ADAM_EPS",
    "RADIUS_FLOOR",
    "RowDim",
    "clip_radius",
    "distance",
    "project",
    "projected_rows",
    "radius_adam_step",
    "radius_gradient",
    "rests_at_anchor",
    "row_blocks",
    "row_dims",
    "row_norms",
    "row_sums",
]

RADIUS_FLOOR = 1e-8
"""Smallest radius, and the constant added to every row norm (both are 1e-8 in the published method)."""

ADAM_EPS = 1e-8
"""ε of the radii's Adam."""

_BLOCK_ELEMENTS = 2**19

RowDim = int | tuple[int, ...]
"""The dimension that counts rows, or the dimensions that count them together."""


def row_dims(row_dim: RowDim, ndim: int) -> tuple[int, ...]:
    """The dimensions of a tensor that count its rows: none, where it has fewer than two and is one row."""
    if ndim < 2:
        return ()
    return (row_dim,) if isinstance(row_dim, int) else row_dim


def row_sums(x: Tensor, row_dim: RowDim = 0) -> Tensor:
    """Sum of each row of `x`: its shape with every dimension but those of `row_dim` reduced to 1."""
    if x.ndim < 2:
        return x.sum().reshape([1] * x.ndim)
    rows = row_dims(row_dim, x.ndim)
    columns = [dim for dim in range(x.ndim) if dim not in rows]
    # torch takes no dimension at all for all of them.
    return x.sum(dim=columns, keepdim=True) if columns else x


def row_blocks(row_dim: RowDim, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """
    The same rows of several tensors, a block at a time, so that what is computed from a block stays in the cache and
    no temporary is as large as the tensor. A tensor of fewer than two dimensions is one block.

    Args:
        row_dim (`int` or tuple of `int`): the dimensions that count rows.
        tensors (`Tensor`): of one shape.

    Yields:
        `tuple[Tensor, ...]`: views of the tensors; nothing, if they are empty.
    """
    elements, dims = tensors[0].numel(), row_dims(row_dim, tensors[0].ndim)
    if not elements:
        return
    if not dims or elements <= _BLOCK_ELEMENTS:
        yield tensors
        return
    first, *inner = dims
    rows = tensors[0].shape[first]
    count = max(1, _BLOCK_ELEMENTS * rows // elements)
    for start in range(0, rows, count):
        length = min(count, rows - start)
        block = tuple(tensor.narrow(first, start, length) for tensor in tensors)
        if inner:
            yield from row_blocks(tuple(inner), *block)
        else:
            yield block


def row_norms(displacement: Tensor, row_dim: RowDim = 0) -> Tensor:
    """
    L1 norm of each row plus 1e-8. The largest of them is the MARS norm (maximum absolute row sum), which for a linear
    layer is the Lipschitz constant of the difference function in the ∞-norm.

    Args:
        displacement (`Tensor`): `W − W0`, any shape.
        row_dim (`int` or tuple of `int`, *optional*, defaults to 0): the dimensions that count rows.

    Returns:
        `Tensor`: the shape of `displacement` with every dimension but those of `row_dim` reduced to 1.
    """
    return row_sums(displacement.abs(), row_dim) + RADIUS_FLOOR


def distance(weight: Tensor, anchor: Tensor, row_dim: RowDim = 0) -> Tensor:
    """
    The largest row norm of `W − W0`, which is the MARS norm plus 1e-8.

    Args:
        weight (`Tensor`): `W`.
        anchor (`Tensor`): `W0`, same shape, of any dtype and on any device.
        row_dim (`int` or tuple of `int`, *optional*, defaults to 0): the dimensions that count rows.

    Returns:
        `Tensor`: a 0-D tensor; 0 for an empty tensor.
    """
    blocks = row_blocks(row_dim, weight, anchor)
    return torch.stack([weight.new_zeros(()), *(row_norms(w - w0.to(w), row_dim).max() for w, w0 in blocks)]).max()


def radius_gradient(
    gradient: Tensor, displacement: Tensor, radius: Tensor | float = math.inf, row_dim: RowDim = 0
) -> Tensor:
    """
    Derivative of the loss with respect to the radius: `∇γ(t) = Σ_rows ⟨g(t), c(t−1)⟩ / ‖c(t−1)‖₁`.

    It is computed from the displacement `d = W(t−1) − W0` that the projection left, so that `c(t−1)` need not be kept:
    a row inside the ball has `d = c`, and one that was projected `d = γ c / ‖c‖₁`. In both, `c / ‖c‖₁` is
    `d / min(γ, ‖d‖₁)`.

    Args:
        gradient (`Tensor`): `g(t)`, taken at `W(t−1)`.
        displacement (`Tensor`): `d(t−1)`, or with an infinite radius `c(t−1)`; same shape as `gradient`.
        radius (`Tensor` or `float`, *optional*, defaults to infinity): `γ(t−1)`, 0-D.
        row_dim (`int` or tuple of `int`, *optional*, defaults to 0): the dimensions that count rows.

    Returns:
        `Tensor`: a 0-D tensor.
    """
    norms = row_norms(displacement, row_dim).clamp(max=radius)
    return (row_sums(gradient * displacement, row_dim) / norms).sum()


def radius_adam_step(
    radius: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    kappa: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """
    One Adam step on the radius, before it is clipped.

    A radius gradient that is not finite, or whose square is not, changes nothing: the radius and its moments come back
    as they were, so that one overflowing batch cannot poison them.

    Args:
        radius (`Tensor`): `γ(t−1)`, any shape (one element per constrained tensor).
        gradient (`Tensor`): `∇γ(t)`, same shape. Positive entries are multiplied by `kappa`.
        exp_avg (`Tensor`): first moment, same shape.
        exp_avg_sq (`Tensor`): second moment, same shape.
        step (`Tensor`): the step number `t ≥ 2` of the bias correction, same shape or 0-D.
        lr (`float` or `Tensor`): μ, in units of a row's L1 norm; a tensor has one value per radius.
        betas (`tuple[float, float]`): decay of the two moments.
        kappa (`float`): κ in [0, 1].

    Returns:
        `tuple[Tensor, Tensor, Tensor]`: the new radius (not yet clipped) and its two moments.
    """
    beta1, beta2 = betas
    gradient = torch.where(gradient > 0, kappa * gradient, gradient)
    new_exp_avg = beta1 * exp_avg + (1 - beta1) * gradient
    new_exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * gradient**2
    corrected_avg = new_exp_avg / _bias_correction(beta1, step)
    corrected_sq = new_exp_avg_sq / _bias_correction(beta2, step)
    new_radius = radius - lr * corrected_avg / (corrected_sq.sqrt() + ADAM_EPS)

    finite = new_exp_avg_sq.isfinite()
    return (
        torch.where(finite, new_radius, radius),
        torch.where(finite, new_exp_avg, exp_avg),
        torch.where(finite, new_exp_avg_sq, exp_avg_sq),
    )


def _bias_correction(beta: float, step: Tensor) -> Tensor:
    # 1 − βᵗ without the cancellation that leaves float32 four digits of 1 − 0.999².
    return -torch.expm1(step * math.log(beta)) if beta else torch.ones_like(step)


def clip_radius(radius: Tensor, largest: Tensor) -> Tensor:
    """
    Clip a radius to `[1e-8, max_row ‖c(t)‖₁]`. A largest norm that is not finite (the optimizer diverged) sets no bound.

    Args:
        radius (`Tensor`): any shape (one element per constrained tensor).
        largest (`Tensor`): the largest row norm of the current displacement, same shape.

    Returns:
        `Tensor`: the shape of `radius`.
    """
    return torch.where(largest.isfinite(), torch.minimum(radius, largest), radius).clamp(min=RADIUS_FLOOR)


def rests_at_anchor(radius: Tensor) -> Tensor:
    """
    Whether a tensor with this radius is put exactly at its anchor: the radius is at the floor, and the dtype too coarse
    for a displacement of 1e-8 to be read off the weights again.

    Args:
        radius (`Tensor`): `γ(t)`, any shape, in the dtype of the weights.

    Returns:
        `Tensor`: boolean, the shape of `radius`.
    """
    if radius.dtype == torch.float64:
        return torch.zeros_like(radius, dtype=torch.bool)
    return radius <= RADIUS_FLOOR


def projected_rows(radius: Tensor, norms: Tensor) -> Tensor:
    """
    Which rows lie outside the ball of the given radius, and so are moved by [`project`]. A row whose norm is not finite
    (the optimizer diverged) is left as it is.

    Args:
        radius (`Tensor`): 0-D.
        norms (`Tensor`): row norms.

    Returns:
        `Tensor`: boolean, the shape of `norms`.
    """
    return (norms > radius) & norms.isfinite()


def project(weight: Tensor, anchor: Tensor, displacement: Tensor, radius: Tensor, norms: Tensor) -> Tensor:
    """
    `W(t) = W0 + min(1, γ(t) / ‖c(t)‖₁) · c(t)`, row by row. Rows inside the ball keep the bits that the
    unconstrained step gave them.

    A radius above the largest row norm moves nothing, as the clipped one would not. The result is therefore the same
    before and after [`clip_radius`], and one pass over the rows is enough.

    Args:
        weight (`Tensor`): `W̃(t)`.
        anchor (`Tensor`): `W0`, same shape.
        displacement (`Tensor`): `c(t) = W̃(t) − W0`, same shape.
        radius (`Tensor`): `γ(t)`, 0-D.
        norms (`Tensor`): `‖c(t)‖₁` from [`row_norms`].

    Returns:
        `Tensor`: `W(t)`, same shape.
    """
    on_sphere = torch.addcmul(anchor, displacement, radius / norms)
    return torch.where(projected_rows(radius, norms), on_sphere, weight)
