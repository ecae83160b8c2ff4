"""Training 16-bit weights: float32 masters stand in for them during the step, and are kept, or rounded after it."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.projection.sharding import local

from .nested import map_tensors
from .rounding import MASTER, is_rounded, per_element, round_parameter

__all__ = ["Masters", "masters_in_place", "needs_master", "pieces_of_a_step", "step_in_pieces"]

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
    members: set[Tensor]
    """Masters and other parameters that the step is over."""
    moved: set[Tensor]
    """Masters and other parameters that have taken the unconstrained step already."""
    rounded: set[Tensor]
    """Masters that were rounded to their parameters already."""


def pieces_of_a_step(
    groups: Sequence[dict[str, Any]], together: Set[Tensor], moves_each_alone: bool
) -> list[set[Tensor]]:
    """
    The parameters that a step is taken over, a few after the other, so that only so many are in memory in float32 of those that
    have no masters. All others are the first piece. Sharded parameters are in the same pieces on every process.

    Args:
        groups (sequence of `dict`): the optimizer's param groups.
        together (set of `Tensor`): parameters that cannot be projected without each other.
        moves_each_alone (`bool`): as for [`step_in_pieces`].
    """
    everything = {parameter for group in groups for parameter in group["params"]}
    widened = {
        parameter: parameter.numel()
        for group in groups
        if moves_each_alone and is_rounded(group)
        for parameter in group["params"]
        if needs_master(parameter) and parameter not in together
        # A sparse gradient is refused, before anything has moved.
        if parameter.grad is not None and not parameter.grad.is_sparse
    }
    pieces = [everything - widened.keys(), *_pieces(widened)]
    # An optimizer's step is its own even where no parameter has a gradient.
    return [piece for piece in pieces if any(each.grad is not None for each in piece)] or [everything]


@contextmanager
def masters_in_place(optimizer: Optimizer, piece: Set[Tensor]) -> Iterator[Masters]:
    """
    While it is open, float32 masters take the places of the bfloat16 parameters that have a gradient: in the param
    groups, and as the keys of the optimizer's state. Whatever the step does to them is training in float32, with the
    gradients that [`step_in_pieces`] lends them. On leaving, the parameters are back, as their masters rounded to bfloat16;
    what the step has rounded itself it tells.

    A master is kept in the state of its parameter, and the anchor of a bfloat16 checkpoint is exact in bfloat16, so
    that weight, gradient, master, anchor and two moments are 18 bytes a parameter. With `stochastic_rounding` it is given up, and
    the moments are in float32 only while it is open: 10 bytes. Groups with `project=False` are left alone.

    Args:
        optimizer (`Optimizer`): whose param groups have the key `project`.
        piece (set of `Tensor`): the parameters that the step is over.

    Yields:
        [`Masters`]
    """
    groups = optimizer.param_groups
    places = {
        (number, index): parameter
        for number, group in enumerate(groups)
        if group["project"]
        for index, parameter in enumerate(group["params"])
        if needs_master(parameter) and parameter in piece and parameter.grad is not None
    }
    masters = {parameter: _master(optimizer, parameter) for parameter in places.values()}
    for (number, index), parameter in places.items():
        groups[number]["params"][index] = masters[parameter]
    for parameter, master in masters.items():
        # torch's optimizers initialise where they find an empty state.
        _move_state(optimizer, parameter, master).pop(MASTER, None)
    parameter_of = {master: parameter for parameter, master in masters.items()}
    # Of Python's sets and dicts these know the hashes, which a tensor takes long to find.
    in_place = Masters(parameter_of, {*piece}.difference(masters).union(parameter_of), set(), set())
    try:
        yield in_place
    finally:
        for (number, index), parameter in places.items():
            groups[number]["params"][index] = parameter
        for parameter, master in masters.items():
            _move_state(optimizer, master, parameter)
        kept = dict(masters)
        for (number, index), parameter in places.items():
            if is_rounded(groups[number]):
                state = optimizer.state.get(parameter, {})
                round_parameter(parameter, kept.pop(parameter), state, groups[number], (number, index))
        for parameter, master in kept.items():
            optimizer.state[parameter][MASTER] = master
        left = [(parameter, master) for parameter, master in kept.items() if master not in in_place.rounded]
        if left:
            torch._foreach_copy_([local(p) for p, _ in left], [local(master) for _, master in left])


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
    members = in_place.members - in_place.moved
    left = [each for parameters in everything for each in parameters if each in members]
    masters = [each for each in left if each in in_place.parameter_of]
    pieces = _pieces({master: local(master).numel() for master in masters}) if moves_each_alone else []
    pieces = pieces or [{*masters}]
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


def _pieces(sizes: Mapping[Tensor, int]) -> list[set[Tensor]]:
    """Tensors of so many elements together, or a larger one alone."""
    room = max(_PIECE_ELEMENTS, sum(sizes.values()) // _MOST_PIECES)
    pieces: list[set[Tensor]] = []
    left = 0
    for tensor, size in sizes.items():
        if size > left or not pieces:
            pieces.append(set())
            left = room
        pieces[-1].add(tensor)
        left -= size
    return pieces


def _master(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    state = optimizer.state.get(parameter, {})
    master = state.get(MASTER)
    if master is None:
        master = parameter.detach().float()
        _widen(state, parameter)
    return cast("Tensor", master)


def _widen(state: dict[str, Any], parameter: Tensor) -> None:
    """Train the state in float32 too that the optimizer made with the parameter, or that a plain run or rounding left."""
    # Of the projection's own, the anchor is in bfloat16 for good.
    left = (
        dict(state)
        if "radius" not in state
        else {key: state[key] for key in per_element(state, parameter, parameter.dtype)}
    )
    state.update(map_tensors(lambda tensor: tensor.float() if tensor.dtype == parameter.dtype else tensor, left))


def _move_state(optimizer: Optimizer, source: Tensor, target: Tensor) -> dict[str, Any]:
    state: dict[str, Any] | None = optimizer.state.pop(source, None)
    if state is None:
        return {}
    optimizer.state[target] = state
    return state
