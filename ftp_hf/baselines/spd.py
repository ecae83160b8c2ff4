"""
Selective Projection Decay (Tian, Huang, Kira, "Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models",
NeurIPS 2024, arXiv 2411.01713) around any optimizer.

For each parameter tensor, with the gradient `g(t)` taken at `W(t−1)` and `W̃(t)` where the optimizer stepped to:

    c(t) = −⟨g(t), W(t−1) − W0⟩                              the condition for selection (Eq. 3)
    r(t) = max(0, ‖W̃(t) − W0‖₂ − ‖W(t−1) − W0‖₂) / ‖W̃(t) − W0‖₂    the deviation ratio (Eq. 9)
    W(t) = W̃(t) − λ r(t) (W̃(t) − W0)   where c(t) < 0, else W̃(t)     (Eq. 4)

So a tensor is held back where the gradient no longer points the way that the tensor has gone, and yet the step (by its
momentum) carries it further. λ = 1 projects it onto the sphere that it was on before the step.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ftp_hf.common.precision import precise_dtype

from ._anchored import AnchoredTrainerMixin, check_no_closure, check_no_weight_decay, check_not_negative, pairs

__all__ = ["SPDTrainerMixin", "attach_spd", "condition", "decay"]


def condition(gradient: Tensor, weight: Tensor, anchor: Tensor) -> Tensor:
    """
    `c(t) = −⟨g(t), W(t−1) − W0⟩`: negative where the descent direction points back towards the anchor.

    Args:
        gradient (`Tensor`): `g(t)`.
        weight (`Tensor`): `W(t−1)`, same shape.
        anchor (`Tensor`): `W0`, same shape.

    Returns:
        `Tensor`: a 0-D tensor.
    """
    return -(gradient.to(precise_dtype(weight)) * _displacement(weight, anchor)).sum()


def decay(weight: Tensor, anchor: Tensor, condition: Tensor, deviation: Tensor, lambda_: float = 1.0) -> Tensor:
    """
    The weight after a step of the optimizer, decayed towards its anchor if the condition selects it.

    Args:
        weight (`Tensor`): `W̃(t)`.
        anchor (`Tensor`): `W0`, same shape.
        condition (`Tensor`): `c(t)`, 0-D, from before the step.
        deviation (`Tensor`): `‖W(t−1) − W0‖₂`, 0-D, from before the step.
        lambda_ (`float`, *optional*, defaults to 1.0): λ.

    Returns:
        `Tensor`: `W(t)`, same shape; `W̃(t)` bit for bit where it is not selected.
    """
    displacement = _displacement(weight, anchor)
    new_deviation = torch.linalg.vector_norm(displacement)
    ratio = (new_deviation - deviation).clamp(min=0.0) / new_deviation
    selected = (condition < 0) & (ratio > 0)
    return torch.where(selected, weight - lambda_ * ratio * displacement, weight).to(weight.dtype)


def attach_spd(
    optimizer: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    anchors: Mapping[str, Tensor],
    *,
    lambda_: float = 1.0,
) -> None:
    """
    Have every step of an optimizer followed by selective projection decay. Between the steps nothing is kept but the
    anchors, so that a run resumes exactly from the weights and the optimizer's own state.

    Args:
        optimizer (`torch.optim.Optimizer`): any, without weight decay; `torch.optim.AdamW` in the paper.
        parameters (mapping from `str` to `nn.Parameter`): the trained parameters by name.
        anchors (mapping from `str` to `Tensor`): `W0`; parameters that it does not name are left to the optimizer.
        lambda_ (`float`, *optional*, defaults to 1.0): λ, where the paper's tuning starts. With 0 nothing is attached.

    Raises:
        ValueError: λ is negative, the optimizer has weight decay, or an anchor is of another shape.
    """
    check_not_negative("lambda_", lambda_)
    if not lambda_:
        return
    check_no_weight_decay("SPD", optimizer)
    anchored = pairs(parameters, anchors)
    before: list[tuple[nn.Parameter, Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def note(_: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check_no_closure(args, kwargs)
        before[:] = [
            (p, anchor, condition(p.grad, p, anchor), torch.linalg.vector_norm(_displacement(p, anchor)))
            for p, anchor in anchored
            if p.grad is not None
        ]

    @torch.no_grad()
    def hold_back(*_: Any) -> None:
        for parameter, anchor, selection, deviation in before:
            parameter.copy_(decay(parameter, anchor, selection, deviation, lambda_))
        before.clear()

    optimizer.register_step_pre_hook(note)
    optimizer.register_step_post_hook(hold_back)


def _displacement(weight: Tensor, anchor: Tensor) -> Tensor:
    return weight.to(precise_dtype(weight)) - anchor.to(precise_dtype(weight))


class SPDTrainerMixin(AnchoredTrainerMixin):
    """
    For any `Trainer` class: selective projection decay around the optimizer that it creates. What the paper calls a layer
    is a parameter tensor, as in the authors' optimizer.

    Args:
        lambda_ (`float`, *optional*, defaults to 1.0): λ.
        new: as for [`AnchoredTrainerMixin`].

    Raises:
        ValueError: λ is negative; `args.weight_decay` is not 0; as [`AnchoredTrainerMixin`].
    """

    method_name = "spd"

    def __init__(self, *args: Any, lambda_: float = 1.0, **kwargs: Any) -> None:
        check_not_negative("lambda_", lambda_)
        super().__init__(*args, **kwargs)
        self.lambda_ = lambda_

    def _attach(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
        attach_spd(optimizer, parameters, self.anchors, lambda_=self.lambda_)
