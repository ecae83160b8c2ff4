"""Training 16-bit weights: float32 masters stand in for them during the step."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.projection.sharding import local

from .nested import map_tensors

__all__ = ["MASTER", "Masters", "masters_in_place", "needs_master", "step_in_pieces"]

MASTER = "master"
"""The key of a parameter's master in the optimizer's state."""

_PIECE_ELEMENTS = 2**22
"""Whose gradients, of 16 MB, mostly stay in the processor's cache between the two passes over them."""
_MOST_PIECES = 32
"""So that the calls do not count: the gradients of a piece are then an eighth of a byte a parameter."""


def needs_master(parameter: Tensor) -> bool:
    """Whether the parameter is of a dtype too coarse to train in: a step of a thousandth would be rounded away."""
    return parameter.dtype == torch.bfloat16


class Masters(NamedTuple):
    """The masters that are in place during a step."""

    parameter_of: dict[Tensor, Tensor]
    """Master → parameter, which has the gradient."""
    moved: set[Tensor]
    """Masters and other parameters that have taken the unconstrained step already."""
    rounded: set[Tensor]
    """Masters that were rounded to their parameters already."""


@contextmanager
def masters_in_place(optimizer: Optimizer) -> Iterator[Masters]:
    """
    While it is open, float32 masters take the places of the bfloat16 parameters that have a gradient: in the param
    groups, and as the keys of the optimizer's state. Whatever the step does to them is training in float32, with the
    gradients that [`step_in_pieces`] lends them. On leaving, the parameters are back, as their masters rounded to bfloat16;
    what the step has rounded itself it tells.

    A master is kept in the state of its parameter, and the anchor of a bfloat16 checkpoint is exact in bfloat16, so
    that weight, gradient, master, anchor and two moments are 18 bytes a parameter. Groups with `project=False` are left
    alone.

    Args:
        optimizer (`Optimizer`): whose param groups have the key `project`.

    Yields:
        [`Masters`]
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
    in_place = Masters({master: parameter for parameter, master in masters.items()}, set(), set())
    try:
        yield in_place
    finally:
        for parameters, index, parameter in places:
            parameters[index] = parameter
        for parameter, master in masters.items():
            _move_state(optimizer, master, parameter)
            optimizer.state[parameter][MASTER] = master
        left = [(parameter, master) for parameter, master in masters.items() if master not in in_place.rounded]
        if left:
            torch._foreach_copy_([local(p.detach()) for p, _ in left], [local(master) for _, master in left])


def step_in_pieces(
    groups: Sequence[dict[str, Any]],
    in_place: Masters,
    step: Callable[[], None],
    moves_each_alone: bool,
) -> None:
    """
    Let an optimizer step over a few masters at a time, so that only their gradients are in memory in float32.

    Args:
        groups (sequence of `dict`): the optimizer's param groups, with the masters in place.
        in_place ([`Masters`]): what is in place, and has not moved yet.
        step (`Callable`): the optimizer's, over the parameters that are in its groups.
        moves_each_alone (`bool`): whether what it does to a parameter depends on its own gradient and state alone. If not,
            all are one piece.
    """
    everything = [group["params"] for group in groups]
    left = [each for parameters in everything for each in parameters if each not in in_place.moved]
    masters = [each for each in left if each in in_place.parameter_of]
    pieces = _pieces(masters) if moves_each_alone else [{*masters}]
    pieces[0].update(each for each in left if each not in in_place.parameter_of)
    for piece in pieces:
        lent = [master for master in masters if master in piece]
        try:
            for group, parameters in zip(groups, everything, strict=True):
                group["params"] = [each for each in parameters if each in piece]
            for master in lent:
                master.grad = cast("Tensor", in_place.parameter_of[master].grad).float()
            step()
        finally:
            for master in lent:
                master.grad = None
            for group, parameters in zip(groups, everything, strict=True):
                group["params"] = parameters


def _pieces(masters: Collection[Tensor]) -> list[set[Tensor]]:
    """Masters of so many elements together, or a larger one alone; one piece at least."""
    sizes = {master: local(master).numel() for master in masters}
    room = max(_PIECE_ELEMENTS, sum(sizes.values()) // _MOST_PIECES)
    pieces: list[set[Tensor]] = [set()]
    left = room
    for master, size in sizes.items():
        if size > left and pieces[-1]:
            pieces.append(set())
            left = room
        pieces[-1].add(master)
        left -= size
    return pieces


def _master(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    state = optimizer.state.get(parameter, {})
    master = state.get(MASTER)
    if master is None:
        master = parameter.detach().float()
        if "radius" not in state:
            _widen(state, parameter.dtype)
    return cast("Tensor", master)


def _widen(state: dict[str, Any], dtype: torch.dtype) -> None:
    """Train the state in float32 too that the optimizer made with the parameter, or that a plain run left."""
    state.update(map_tensors(lambda tensor: tensor.float() if tensor.dtype == dtype else tensor, dict(state)))


def _move_state(optimizer: Optimizer, source: Tensor, target: Tensor) -> None:
    if source in optimizer.state:
        optimizer.state[target] = optimizer.state.pop(source)
