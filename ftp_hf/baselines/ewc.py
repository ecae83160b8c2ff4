"""
Elastic weight consolidation: an L2 penalty around the pre-trained weights, stronger where they matter for what the model
answered (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ._anchored import add_to_gradient, check_no_closure, check_no_weight_decay, check_not_negative, pairs

__all__ = ["attach_ewc", "check_fisher", "ewc_penalty"]


def ewc_penalty(
    parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor], fisher: Mapping[str, Tensor], *, lambda_: float
) -> Tensor:
    """
    `λ/2 Σ_i F_i (θ_i − θ*_i)²` (the paper's Eq. 3), to be added to the loss once for each step of the optimizer.

    Args:
        parameters (mapping from `str` to `Tensor`): θ, by name.
        anchors (mapping from `str` to `Tensor`): θ*, the pre-trained values.
        fisher (mapping from `str` to `Tensor`): F, as [`fisher_diagonal`] returns it. Parameters that it or `anchors` do not
            name have no penalty.
        lambda_ (`float`): λ.

    Returns:
        `Tensor`: a 0-D tensor.
    """
    terms = [
        (fisher[name].to(w.device) * (w - anchors[name].to(w.device)).square()).sum()
        for name, w in parameters.items()
        if name in fisher and name in anchors
    ]
    return lambda_ / 2 * torch.stack(terms).sum()


def attach_ewc(
    optimizer: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    anchors: Mapping[str, Tensor],
    fisher: Mapping[str, Tensor],
    *,
    lambda_: float,
) -> None:
    """
    Have every step of an optimizer add the gradient of [`ewc_penalty`], `λ F (θ − θ*)`, to what the loss left in `grad`, as
    [`attach_l2_sp`] does with that of its own.

        anchors = {name: p.detach().clone() for name, p in model.named_parameters()}
        fisher = fisher_diagonal(model, batches)
        attach_ewc(optimizer, dict(model.named_parameters()), anchors, fisher, lambda_=1e4)

    Args:
        optimizer (`torch.optim.Optimizer`): any, without weight decay.
        parameters (mapping from `str` to `nn.Parameter`): the trained parameters by name.
        anchors (mapping from `str` to `Tensor`): θ*.
        fisher (mapping from `str` to `Tensor`): F. It is looked up at each step, and may be filled after this call.
        lambda_ (`float`): λ. With 0 nothing is attached.

    Raises:
        ValueError: λ is negative, the optimizer has weight decay, or a tensor of `anchors` or `fisher` does not fit its
            parameter.
    """
    check_not_negative("lambda_", lambda_)
    if not lambda_:
        return
    check_no_weight_decay("EWC", optimizer)
    check_fisher(fisher, parameters)
    names = [name for name in parameters if name in anchors]
    anchored = dict(zip(names, pairs(parameters, anchors), strict=True))

    @torch.no_grad()
    def add_gradient(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check_no_closure(args, kwargs)
        scale = getattr(optimizer, "grad_scale", None)
        for name, (parameter, anchor) in anchored.items():
            if name in fisher:
                gradient = (parameter - anchor).mul_(fisher[name].to(parameter)).mul_(lambda_)
                add_to_gradient(parameter, gradient, scale)

    optimizer.register_step_pre_hook(add_gradient)


def check_fisher(fisher: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Raise if a tensor is not of its parameter's shape, is negative, or is not finite."""
    for name in fisher.keys() & parameters.keys():
        shape, expected = tuple(fisher[name].shape), tuple(parameters[name].shape)
        if shape != expected:
            raise ValueError(f"the Fisher information of {name} has the shape {shape}, the parameter {expected}")
        if not bool((fisher[name].isfinite() & (fisher[name] >= 0)).all()):
            raise ValueError(
                f"the Fisher information of {name} is negative or not finite: take it from fisher_diagonal"
            )
