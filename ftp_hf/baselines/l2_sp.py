"""L2-SP: an L2 penalty whose centre is the pre-trained model (Li, Grandvalet, Davoine, ICML 2018, arXiv 1802.01483)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ._anchored import (
    AnchoredTrainerMixin,
    add_to_gradient,
    check_no_closure,
    check_no_weight_decay,
    check_not_negative,
    pairs,
)

__all__ = ["L2SPTrainerMixin", "attach_l2_sp", "l2_sp_penalty"]


def l2_sp_penalty(
    parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor], *, alpha: float = 0.1, beta: float = 0.01
) -> Tensor:
    """
    `Ω(w) = α/2 ‖w_S − w_S⁰‖² + β/2 ‖w_S̄‖²` (the paper's definition of L2-SP), to be added to the loss once for each step
    of the optimizer.

    Args:
        parameters (mapping from `str` to `Tensor`): the trained parameters by name.
        anchors (mapping from `str` to `Tensor`): `w⁰`, the pre-trained values of `w_S`. What it does not name is `w_S̄`,
            the new parameters.
        alpha (`float`, *optional*, defaults to 0.1): α.
        beta (`float`, *optional*, defaults to 0.01): β.

    Returns:
        `Tensor`: a 0-D tensor.
    """
    terms = [
        alpha / 2 * (w - anchors[name].to(w.device)).square().sum() if name in anchors else beta / 2 * w.square().sum()
        for name, w in parameters.items()
    ]
    return torch.stack(terms).sum()


def attach_l2_sp(
    optimizer: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    anchors: Mapping[str, Tensor],
    *,
    alpha: float = 0.1,
    beta: float = 0.01,
) -> None:
    """
    Have every step of an optimizer add the gradient of [`l2_sp_penalty`], `α(w − w⁰)` and `βw`, to what the loss left in
    `grad`. Without gradient clipping that is the penalty in the loss; clipping sees the loss alone, as the penalty's
    gradient is known exactly and needs none.

    It happens once a step: a penalty added in `Trainer.compute_loss` would be divided by the number of accumulation steps
    for some models and not for others, which normalise their loss by the number of items in the batch. A parameter that
    the loss did not reach is pulled all the same, as by a penalty in the loss. Gradient scaling for float16 is heeded.

    Args:
        optimizer (`torch.optim.Optimizer`): any, without weight decay; an Adam rescales the penalty's gradient with the
            rest.
        parameters (mapping from `str` to `nn.Parameter`): the trained parameters by name.
        anchors (mapping from `str` to `Tensor`): as for [`l2_sp_penalty`].
        alpha (`float`, *optional*, defaults to 0.1): α.
        beta (`float`, *optional*, defaults to 0.01): β. With both strengths 0 nothing is attached.

    Raises:
        ValueError: a strength is negative, the optimizer has weight decay, or an anchor is of another shape.
    """
    check_not_negative("alpha", alpha)
    check_not_negative("beta", beta)
    if not alpha and not beta:
        return
    check_no_weight_decay("L2-SP", optimizer)
    anchored = pairs(parameters, anchors) if alpha else []
    new = [parameter for name, parameter in parameters.items() if name not in anchors] if beta else []

    @torch.no_grad()
    def add_gradient(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check_no_closure(args, kwargs)
        # Fused optimizers are handed gradients that are still scaled, and the scale.
        scale = getattr(optimizer, "grad_scale", None)
        for parameter, anchor in anchored:
            add_to_gradient(parameter, (parameter - anchor).mul_(alpha), scale)
        for parameter in new:
            add_to_gradient(parameter, beta * parameter, scale)

    optimizer.register_step_pre_hook(add_gradient)


class L2SPTrainerMixin(AnchoredTrainerMixin):
    """
    For any `Trainer` class: fine-tuning with the L2-SP penalty.

    The defaults are those of the authors' example; the paper chooses α by cross-validation. All trained parameters are
    penalised, as the paper's equation says; the authors' script leaves out biases and normalisation parameters.

    Args:
        alpha (`float`, *optional*, defaults to 0.1): α, the strength on pre-trained parameters.
        beta (`float`, *optional*, defaults to 0.01): β, the strength on new ones.
        new: as for [`AnchoredTrainerMixin`].

    Raises:
        ValueError: a strength is negative; `args.weight_decay` is not 0; as [`AnchoredTrainerMixin`].
    """

    method_name = "l2-sp"

    def __init__(self, *args: Any, alpha: float = 0.1, beta: float = 0.01, **kwargs: Any) -> None:
        check_not_negative("alpha", alpha)
        check_not_negative("beta", beta)
        super().__init__(*args, **kwargs)
        self.alpha, self.beta = alpha, beta

    def _attach(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
        attach_l2_sp(optimizer, parameters, self.anchors, alpha=self.alpha, beta=self.beta)
