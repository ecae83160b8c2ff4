"""AdamW's step of one tensor, for kernels that take it in the same pass as the radius gradient."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batch import remembered
from .sharding import local
from .tensor import ProjectedTensor

__all__ = ["AdamWNumbers", "AdamWStep", "adamw_steps"]


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
    taken: Tensor
    """`t`, the steps that were taken, this one included: 0-D."""
    group: dict[str, Any]
    """The param group, with the options."""

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The optimizer's state of the tensor: both moments and the step count."""
        return self.exp_avg, self.exp_avg_sq, self.taken

    def numbers(self) -> "AdamWNumbers":
        """What a step on the CPU takes from the steps taken and the options."""
        lr, (beta1, beta2), taken = float(self.group["lr"]), map(float, self.group["betas"]), float(self.taken)
        return AdamWNumbers(
            decay=1 - lr * self.group["weight_decay"],
            exp_avg_weight=1 - beta1,
            beta2=beta2,
            exp_avg_sq_weight=1 - beta2,
            step_size=lr / (1 - beta1**taken),
            correction=math.sqrt(1 - beta2**taken),
            eps=self.group["eps"],
            sign=-1.0 if self.group["maximize"] else 1.0,
        )


class AdamWNumbers(NamedTuple):
    """The numbers of an [`AdamWStep`]."""

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
    The steps that torch's `AdamW(fused=True)` would take for tensors of one param group on one device, which counts them as
    taken. `None` for the tensors that are left to torch: without `fused=True`, with AMSGrad or `capturable`, with β₁ up to a
    half, with options that are on a GPU, without moments yet, or only some of whose rows are projected.
    """
    if not _is_fused(tensors[0].group):
        return [None] * len(tensors)
    steps = remembered(tensors, adamw_steps, lambda: [_step(tensor) for tensor in tensors])
    counts = [step.taken for step in steps if step is not None]
    if counts:
        torch._foreach_add_(counts, 1)
    return steps


def _is_fused(group: dict[str, Any]) -> bool:
    numbers = (group["lr"], *group["betas"])
    if any(isinstance(number, Tensor) and not number.is_cpu for number in numbers):
        return False  # The host would wait for them.
    # Where β₁ is no more than a half, torch computes the mean in another way.
    return bool(group["fused"] and not group["amsgrad"] and not group["capturable"] and group["betas"][0] > 0.5)


def _has_moments(tensor: ProjectedTensor) -> bool:
    """Whether its state has a count and moments, in float32, on the device of the weight, with its shape and its strides."""
    kept = [local(tensor.state[key]) for key in ("step", "exp_avg", "exp_avg_sq") if key in tensor.state]
    weight = tensor.weight
    return (
        len(kept) == 3
        and all(each.dtype == torch.float32 and each.device == weight.device for each in kept)
        and all(moment.shape == weight.shape and moment.stride() == weight.stride() for moment in kept[1:])
    )


def _step(tensor: ProjectedTensor) -> AdamWStep | None:
    if not _has_moments(tensor) or tensor.pretrained_rows is not None:
        return None
    state = tensor.state
    return AdamWStep(local(state["exp_avg"]), local(state["exp_avg_sq"]), state["step"], tensor.group)
