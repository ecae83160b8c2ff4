"""AdamW's step of one tensor, for kernels that take it in the same pass as the radius gradient."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .sharding import local
from .tensor import ProjectedTensor

__all__ = ["AdamWStep", "adamw_steps"]


class AdamWStep(NamedTuple):
    """
    `m ← m + (1 − β₁)(g − m)`, `v ← β₂ v + (1 − β₂) g²`, `W ← decay · W − step_size · m / (√v / correction + ε)`, with
    `decay = 1 − lr · λ`, `step_size = lr / (1 − β₁ᵗ)` and `correction = √(1 − β₂ᵗ)`: decoupled weight decay (Loshchilov and
    Hutter, ICLR 2019, arXiv 1711.05101), as torch's `AdamW` has it.
    """

    exp_avg: Tensor
    """`m`, laid out in memory as the weight is."""
    exp_avg_sq: Tensor
    """`v`."""
    decay: float
    exp_avg_weight: float
    """`1 − β₁`."""
    beta2: float
    exp_avg_sq_weight: float
    """`1 − β₂`."""
    step_size: float
    correction: float
    eps: float
    sign: float
    """Of the gradient: −1 to maximise."""


def adamw_steps(tensors: Sequence[ProjectedTensor]) -> list[AdamWStep | None]:
    """
    The steps that torch's `AdamW(fused=True)` would take, which counts them as taken. `None` for the tensors that are left to
    torch: without `fused=True`, with AMSGrad or `capturable`, with β₁ up to a half, without moments yet, or only some of whose
    rows are projected.

    Args:
        tensors (sequence of `ProjectedTensor`): of one param group, on the CPU.
    """
    group = tensors[0].group
    # Where β₁ is no more than a half, torch computes the mean in another way.
    if not group["fused"] or group["amsgrad"] or group["capturable"] or group["betas"][0] <= 0.5:
        return [None] * len(tensors)
    taken = [_has_moments(tensor) and tensor.first_rows is None for tensor in tensors]
    counts = [tensor.state["step"] for tensor, takes in zip(tensors, taken, strict=True) if takes]
    if counts:
        torch._foreach_add_(counts, 1)
    return [_step(tensor, group) if takes else None for tensor, takes in zip(tensors, taken, strict=True)]


def _has_moments(tensor: ProjectedTensor) -> bool:
    """Whether its state has the moments in float32, without gaps between them and the weight's elements."""
    moments = [local(tensor.state[key]) for key in ("exp_avg", "exp_avg_sq") if key in tensor.state]
    return len(moments) == 2 and all(
        moment.dtype == torch.float32 and moment.stride() == tensor.weight.stride() for moment in moments
    )


def _step(tensor: ProjectedTensor, group: dict[str, Any]) -> AdamWStep:
    lr, (beta1, beta2), count = float(group["lr"]), map(float, group["betas"]), float(tensor.state["step"])
    return AdamWStep(
        exp_avg=local(tensor.state["exp_avg"]),
        exp_avg_sq=local(tensor.state["exp_avg_sq"]),
        decay=1 - lr * group["weight_decay"],
        exp_avg_weight=1 - beta1,
        beta2=beta2,
        exp_avg_sq_weight=1 - beta2,
        step_size=lr / (1 - beta1**count),
        correction=math.sqrt(1 - beta2**count),
        eps=group["eps"],
        sign=-1.0 if group["maximize"] else 1.0,
    )
