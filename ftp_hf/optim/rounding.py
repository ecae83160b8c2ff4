"""
Training 16-bit weights without masters: what a step has computed in float32 is rounded to bfloat16 at random.

To the nearest, bfloat16's eight bits would lose every step that is less than about a four-hundredth of a weight, and every change
of AdamW's second moment, which goes by a thousandth of itself. Rounded up with the probability of what is cut off, a number is
right on average, and small steps add up (Gupta et al., ICML 2015, arXiv 1502.02551; torchao's `bf16_stochastic_round` trains
weights so). An anchor is a number of bfloat16, so that the two neighbours of a weight are never on different sides of it: a row's
distance is on average what the projection made it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ftp_hf.projection.radius import RADIUS
from ftp_hf.projection.sharding import local, shard_number
from ftp_hf.projection.tensor import HELD

from .options import ROUNDED_STEPS

__all__ = [
    "MASTER",
    "count_step",
    "is_rounded",
    "needs_master",
    "per_element",
    "round_parameter",
    "round_stochastically",
]

MASTER = "master"
"""The key of a parameter's master in the optimizer's state."""

_BLOCK_ELEMENTS = 2**16
"""Elements of a block, which stay in the processor's cache."""


def needs_master(parameter: Tensor) -> bool:
    """Whether the parameter is of a dtype too coarse to train in: a step of a thousandth would be rounded away."""
    return parameter.dtype == torch.bfloat16


def is_rounded(group: Mapping[str, Any]) -> bool:
    """Whether the 16-bit weights of a param group have no masters."""
    return bool(group["project"] and group.get("stochastic_rounding", False))


def count_step(groups: Iterable[dict[str, Any]]) -> None:
    """Advance the step counter of the param groups that round at random, so that each step draws new random numbers."""
    for group in filter(is_rounded, groups):
        if any(map(needs_master, group["params"])):
            group[ROUNDED_STEPS] = group.get(ROUNDED_STEPS, 0) + 1


def per_element(state: Mapping[str, Any], parameter: Tensor, dtype: torch.dtype) -> list[str]:
    """
    The keys of an optimizer's state whose tensors have a value for each element of a parameter, such as moments, and a dtype.
    What it keeps per row or per parameter is small and stays in float32.
    """
    return [
        key
        for key, value in state.items()
        if key not in (HELD, MASTER, RADIUS, "step")
        and isinstance(value, Tensor)
        and value.dtype == dtype
        and value.ndim > 0
        and value.shape == parameter.shape
    ]


def round_parameter(
    parameter: Tensor, master: Tensor, state: dict[str, Any], group: Mapping[str, Any], place: tuple[int, int]
) -> None:
    """
    Round a parameter and its moments after a step, with random numbers of their own, which the same step of a resumed
    run and of a replica draws, too.

    Args:
        parameter (`Tensor`): in bfloat16.
        master (`Tensor`): what it is to be, in float32; overwritten.
        state (`dict`): the optimizer's of the parameter, in float32; it takes the rounded moments.
        group (`dict`): the param group, which counts its steps.
        place (`tuple[int, int]`): the number of the group, and that of the parameter in it.
    """
    numbers = (group.get(ROUNDED_STEPS, 0), *place, shard_number(parameter))
    _round(local(master), *numbers)
    local(parameter.detach()).copy_(local(master))
    for key in per_element(state, parameter, torch.float32):
        _round(local(state[key]), *numbers, key)
        state[key] = state[key].to(parameter.dtype)


def _round(values: Tensor, *numbers: Any) -> None:
    # Hashed, because the CPU's generator takes no more than 32 bits of its seed.
    seed = int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "little")
    round_stochastically(values, torch.Generator(values.device).manual_seed(seed))


def round_stochastically(values: Tensor, generator: torch.Generator) -> None:
    """
    Replace each float32 value by one of its two neighbours in bfloat16, so that it is right on average. What bfloat16 holds
    stays as it is, and so do infinities and NaN.
    """
    blocks = torch.split(values.view(-1), _BLOCK_ELEMENTS) if values.is_cpu and values.is_contiguous() else [values]
    for block in blocks:
        _round_block(block, generator)


def _round_block(values: Tensor, generator: torch.Generator) -> None:
    # Zero, or NaN where the value is: no bits can be added to it.
    unheld = values.clamp(-1, 1).mul_(0)
    # Four numbers of 16 bits in each draw.
    drawn = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device)
    drawn.random_(-(2**63), None, generator=generator)
    added = drawn.view(torch.int16)[: values.numel()].view(values.shape)
    # bfloat16 is the upper half of the bits of float32.
    values.view(torch.int32).add_(added).add_(2**15).bitwise_and_(-(2**16))
    values.add_(unheld)
