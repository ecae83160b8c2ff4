"""Training 16-bit weights: float32 masters, which the step is taken with, and which are kept, or rounded after it."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.projection.radius import RADIUS
from ftp_hf.projection.sharding import local
from ftp_hf.projection.tensor import check_shape

from .naming import names_in
from .nested import map_tensors
from .rounding import MASTER, is_rounded, needs_master, per_element, round_parameter

__all__ = [
    "Masters",
    "adopt_masters",
    "master_of",
    "masters_of",
    "pieces_of_a_step",
    "step_in_pieces",
]

_PIECE_ELEMENTS = 2**22
"""Elements of a piece: 16 MB of gradients, which mostly stay in the processor's cache between the two passes over them."""
_MOST_PIECES = 32
"""Upper limit on the pieces, so that call overhead stays negligible. A piece's float32 gradients are then 1/8 byte a parameter."""


def master_of(parameter: Tensor, state: Mapping[str, Any]) -> Tensor | None:
    """The master in the state of a bfloat16 parameter; `None` for others, even if one is left from when they were in bfloat16."""
    return state.get(MASTER) if needs_master(parameter) else None


def adopt_masters(states: Mapping[Tensor, dict[str, Any]], parameters: Set[Tensor]) -> None:
    """
    Copy the masters that are left from when these parameters were in bfloat16 into them, and drop the masters. That of a
    parameter that got more rows stays until it has them, too.
    """
    for parameter in parameters:
        state = states.get(parameter, {})
        if MASTER in state and not needs_master(parameter) and state[MASTER].shape == parameter.shape:
            local(parameter.detach()).copy_(local(state.pop(MASTER)))


class Masters(NamedTuple):
    """The float32 masters of one step, and which parameters have already been stepped or rounded."""

    master_of: dict[Tensor, Tensor]
    """Parameter → master."""
    members: Set[Tensor]
    """The parameters that the step is over."""
    moved: set[Tensor]
    """Those that have taken the unconstrained step already, or whose masters have."""
    rounded: set[Tensor]
    """Those that their masters were rounded to already."""


def pieces_of_a_step(
    groups: Sequence[dict[str, Any]], together: Set[Tensor], moves_each_alone: bool
) -> list[set[Tensor]]:
    """
    The parameters in the pieces that a step is taken over one after another, so that only one piece of the parameters without
    masters is in memory in float32 at a time. All others are the first piece, and so are parameters that cannot be projected
    without each other (`together`). Sharded parameters are in the same pieces on every process.
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
def masters_of(optimizer: Optimizer, piece: Set[Tensor]) -> Iterator[Masters]:
    """
    Context in which the bfloat16 parameters that have a gradient have float32 masters, in their states, so that the step trains
    in float32. On exit the parameters become their masters rounded to bfloat16, except those that the step reports as `rounded`.

    A master stays in the state of its parameter, and the anchor of a bfloat16 checkpoint is exact in bfloat16, so
    that weight, gradient, master, anchor and two moments are 18 bytes a parameter. With `stochastic_rounding` it is given up, and
    the moments are in float32 only while it is open: 10 bytes. Groups with `project=False` are left alone.

    Raises:
        ValueError: a master that was kept has another shape than its parameter.
    """
    groups, states = optimizer.param_groups, optimizer.state
    places = {
        parameter: (number, index)
        for number, group in enumerate(groups)
        if group["project"]
        for index, parameter in enumerate(group["params"])
        if needs_master(parameter) and parameter.grad is not None and parameter in piece
    }
    masters = Masters({parameter: _master(states, parameter) for parameter in places}, piece, set(), set())
    for parameter, master in masters.master_of.items():
        if master.shape != parameter.shape:
            number, index = places[parameter]
            check_shape(names_in(groups[number], number)[index], parameter, MASTER, master)
    try:
        yield masters
    finally:
        kept = dict(masters.master_of)
        for parameter, (number, index) in places.items():
            if is_rounded(groups[number]):
                state = optimizer.state.pop(parameter)
                del state[MASTER]
                round_parameter(parameter, kept.pop(parameter), state, groups[number], (number, index))
                if state:  # torch.distributed.checkpoint takes an empty entry for a state
                    optimizer.state[parameter] = state
        left = [parameter for parameter in kept if parameter not in masters.rounded] if masters.rounded else kept
        if left:
            torch._foreach_copy_([local(each) for each in left], [local(kept[each]) for each in left])


def step_in_pieces(
    optimizer: Optimizer,
    masters: Masters,
    step: Callable[[], None],
    moves_each_alone: bool,
) -> None:
    """
    Let an optimizer step over what has not moved yet, with masters in place of their parameters: in the param groups, and
    as the keys of its state. Only a few are replaced at a time, so that only their gradients are in float32. If what the step
    does to a parameter does not depend on its own gradient and state alone (`moves_each_alone`), all are one piece.
    """
    groups, master_of = optimizer.param_groups, masters.master_of
    everything = [group["params"] for group in groups]
    members = masters.members - masters.moved
    left = [each for parameters in everything for each in parameters if each in members]
    sizes = {each: local(each).numel() for each in left if each in master_of}
    pieces = _pieces(sizes) if moves_each_alone else []
    pieces = pieces or [{*sizes}]
    pieces[0].update(each for each in left if each not in master_of)
    for piece in pieces:
        stood_in_for = [parameter for parameter in sizes if parameter in piece]
        try:
            for group, parameters in zip(groups, everything, strict=True):
                group["params"] = [master_of.get(each, each) for each in parameters if each in piece]
            for parameter in stood_in_for:
                _stand_in(optimizer.state, parameter, master_of[parameter])
            step()
        finally:
            for parameter in stood_in_for:
                _stand_back(optimizer.state, parameter, master_of[parameter])
            for group, parameters in zip(groups, everything, strict=True):
                group["params"] = parameters


def _pieces(sizes: Mapping[Tensor, int]) -> list[set[Tensor]]:
    """The tensors in groups of limited total size; a tensor above the limit is a group of its own."""
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


def _master(states: MutableMapping[Tensor, dict[str, Any]], parameter: Tensor) -> Tensor:
    state = states[parameter]
    if MASTER not in state:
        _widen(state, parameter)
        state[MASTER] = parameter.detach().float()
    return cast("Tensor", state[MASTER])


def _widen(state: dict[str, Any], parameter: Tensor) -> None:
    """Convert to float32 what the state has in bfloat16: the optimizer made it so, or a plain run or rounding left it so."""
    # Of the projection's own, the anchor is in bfloat16 for good.
    left = (
        dict(state)
        if RADIUS not in state
        else {key: state[key] for key in per_element(state, parameter, parameter.dtype)}
    )
    state.update(map_tensors(lambda tensor: tensor.float() if tensor.dtype == parameter.dtype else tensor, left))


def _stand_in(states: MutableMapping[Tensor, dict[str, Any]], parameter: Tensor, master: Tensor) -> None:
    """Have a master take the state and the gradient of its parameter."""
    state = states.pop(parameter)
    del state[MASTER]
    if state:  # torch's optimizers initialise where they find an empty one
        states[master] = state
    master.grad = cast("Tensor", parameter.grad).float()


def _stand_back(states: MutableMapping[Tensor, dict[str, Any]], parameter: Tensor, master: Tensor) -> None:
    """Undo that, wherever it was interrupted."""
    master.grad = None
    state: dict[str, Any] = states.pop(master, {})
    if state:
        states[parameter] = state
    states[parameter][MASTER] = master
