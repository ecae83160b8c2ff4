"""
Fast Trainable Projection of an update in factors, `ΔW = L R`, as pure tensor functions.

An adapter such as LoRA (`L = s B`, `R = A`) does not train the weight `W0` but what is added to it, so that the distance
from the pre-trained model is `ΔW`, not how far the factors are from their random start. All that [`equations`] does to a
displacement `c = W − W0` can be done to `ΔW` through the rows of `L`, without ever holding `ΔW`:

*The projection is a row scaling of L.* Row `i` of `ΔW` is `L_i R`. What is on the left of a row scales the row, so
`ΔW_i ← min(1, γ / ‖ΔW_i‖₁) ΔW_i` is `L_i ← min(1, γ / ‖ΔW_i‖₁) L_i`, and `R` stays what the optimizer made it.

*The radius gradient needs no gradient of W.* With `g = ∂L/∂ΔW`, the chain rule gives `∂L/∂L_i = g_i Rᵀ`, hence
`⟨∂L/∂L_i, L_i⟩ = ⟨g_i, L_i R⟩ = ⟨g_i, ΔW_i⟩`, and

    ∇γ(t) = Σ_rows ⟨g(t), c(t−1)⟩ / ‖c(t−1)‖₁ = Σ_rows ⟨∂L/∂L_i, L_i⟩ / min(γ(t−1), ‖ΔW_i(t−1)‖₁)

where `ΔW(t−1)`, after projection, stands in for `c(t−1)`, before it, for the reason given in
[`equations.radius_gradient`]: a row on the ball is `γ / ‖c‖₁` times `c`, and the quotient does not feel a scaling.

*The start and the floor need no memory.* The anchor is zero. Where dense weights lose a displacement of 1e-8 in the
rounding of `W0`, a row of `L` that is scaled to 1e-8 keeps all of its digits, so that the factors remember the direction
by themselves: there is neither an anchor to store nor a direction. At the usual start `L = 0` (LoRA's `B = 0`):

- *Step 1.* `∂L/∂R = Lᵀ g = 0`, so an Adam leaves `R` where it is; it moves `L`, and the radius 1e-8 takes the length away
  and leaves the direction. (For dense weights it is the same: the first step teaches a direction and moves nothing.)
- *Step 2.* `∇γ = Σ ⟨g_i, c_i⟩ / ‖c_i‖₁` is a number of order one although `L` is of order 1e-8, for both sides of the
  quotient shrank alike. If the direction goes downhill, γ takes its first step, of about `0.7 · radius_lr`.
- *At the floor* `∂L/∂R = Lᵀ g` is of order 1e-8 or below, where Adam's `eps` (1e-8) brakes the steps of `R`; a restless
  `R` would do no harm, for the norms are taken after it moved. Off the floor its gradients grow by five orders of
  magnitude within a step, which Adam bounds as it bounds any first gradient.

Symbols: `L` is `left`, (blocks, rows, rank), `R` is `right`, (blocks, rank, columns). A block is one expert of a mixture;
everything else has one. A sum of products, several adapters on one weight, is one product of their concatenated factors.

Cost: the row norms are those of the whole product, 2 · rows · columns · rank operations and as many additions as `W` has
elements, twice a step: what the weight itself costs in the forward pass of `2 · rank` tokens. They are formed a few rows at
a time, in 1 MB.
"""

import torch
from torch import Tensor

from . import equations

__all__ = ["inner_products", "row_norms"]

_BLOCK_ELEMENTS = 2**18


def row_norms(left: Tensor, right: Tensor) -> Tensor:
    """
    L1 norm of each row of `L R`, plus 1e-8, without more than a few rows of the product in memory. In the dtype of the factors,
    also inside `torch.autocast`.

    Args:
        left (`Tensor`): `L`, (blocks, rows, rank).
        right (`Tensor`): `R`, (blocks, rank, columns).

    Returns:
        `Tensor`: (blocks, rows).
    """
    blocks, rows, _ = left.shape
    norms = left.new_empty(blocks, rows)
    count = max(1, _BLOCK_ELEMENTS // max(1, right.shape[-1]))
    # A step may be taken inside autocast, which would form the product in 16 bits.
    with torch.autocast(left.device.type, enabled=False):
        for block in range(blocks):
            for first in range(0, rows, count):
                part = left[block, first : first + count] @ right[block]
                # Four times as fast as torch.linalg.vector_norm (torch 2.13, CPU).
                torch.sum(part.abs_(), dim=1, out=norms[block, first : first + count])
    return norms + equations.RADIUS_FLOOR


def inner_products(gradient: Tensor, rows: Tensor) -> Tensor:
    """
    `⟨∂L/∂L_i, L_i⟩` of each row, which is `⟨g_i, ΔW_i⟩`.

    Args:
        gradient (`Tensor`): `∂L/∂L`, (blocks, rows, rank).
        rows (`Tensor`): `L`, same shape. A factor in common cancels: it may be left out of `L` and its gradient.

    Returns:
        `Tensor`: (blocks, rows).
    """
    return (gradient * rows).sum(dim=-1)
