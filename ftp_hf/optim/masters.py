"""Training 16-bit weights: float32 masters stand in for them during the step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.projection.sharding import local

from .nested import map_tensors

__all__ = ["MASTER", "masters_in_place", "needs_master"]

MASTER = "master"
"""The key of a parameter's master in the optimizer's state."""


def needs_master(parameter: Tensor) -> bool:
    """Whether the parameter is of a dtype too coarse to train in: a step of a thousandth would be rounded away."""
    return parameter.dtype == torch.bfloat16


@contextmanager
def masters_in_place(optimizer: Optimizer) -> Iterator[dict[Tensor, Tensor]]:
    """
    While it is open, float32 masters take the places of the bfloat16 parameters that have a gradient: in the param
    groups, with the gradient in float32, and as the keys of the optimizer's state. Whatever the step does to them is
    training in float32. On leaving, the parameters are back, as their masters rounded to bfloat16.

    A master is kept in the state of its parameter, and the anchor of a bfloat16 checkpoint is exact in bfloat16, so
    that weight, gradient, master, anchor and two moments are 18 bytes a parameter. Groups with `project=False` are left
    alone.

    Args:
        optimizer (`Optimizer`): whose param groups have the key `project`.

    Yields:
        `dict[Tensor, Tensor]`: master → parameter.
    """
    places = [
        (group["params"], index, parameter)
        for group in optimizer.param_groups
        if group["project"]
        for index, parameter in enumerate(group["params"])
        if needs_master(parameter) and parameter.grad is not None
    ]
    masters = {parameter: _master(optimizer, parameter) for _, _, parameter in places}
    for parameters, index, parameter in places:
        parameters[index] = masters[parameter]
    for parameter, master in masters.items():
        # torch's optimizers initialise where they find an empty state.
        optimizer.state.get(parameter, {}).pop(MASTER, None)
        _move_state(optimizer, parameter, master)
    try:
        yield {master: parameter for parameter, master in masters.items()}
    finally:
        for parameters, index, parameter in places:
            parameters[index] = parameter
        for parameter, master in masters.items():
            master.grad = None
            _move_state(optimizer, master, parameter)
            optimizer.state[parameter][MASTER] = master
        if masters:
            torch._foreach_copy_([local(p.detach()) for p in masters], [local(master) for master in masters.values()])


def _master(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    state = optimizer.state.get(parameter, {})
    master = state.get(MASTER)
    if master is None:
        master = parameter.detach().float()
        if "radius" not in state:
            _widen(state, parameter.dtype)
    master.grad = None if parameter.grad is None else parameter.grad.float()
    return cast("Tensor", master)


def _widen(state: dict[str, Any], dtype: torch.dtype) -> None:
    """Train the state in float32 too that the optimizer made with the parameter, or that a plain run left."""
    state.update(map_tensors(lambda tensor: tensor.float() if tensor.dtype == dtype else tensor, dict(state)))


def _move_state(optimizer: Optimizer, source: Tensor, target: Tensor) -> None:
    if source in optimizer.state:
        optimizer.state[target] = optimizer.state.pop(source)
