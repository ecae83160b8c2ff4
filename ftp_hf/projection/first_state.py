"""The state of tensors before their first step: where the anchors are taken, and how they are kept."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import equations
from .exchange import whole_values
from .kernels.dispatch import batches
from .low_rank_tensor import LowRankTensor
from .tensor import HELD_DTYPES, ProjectedTensor

__all__ = ["first_states", "low_rank_first_states"]

_NARROW_FROM = 2**16
"""Elements from which a tensor is worth the precision that a 16-bit direction costs at the floor."""


def first_states(
    tensors: Sequence[ProjectedTensor], anchor_of: Callable[[ProjectedTensor], Tensor]
) -> list[dict[str, Tensor]]:
    """
    The states before the first step, in the order of the tensors. Sharded tensors take one all-gather, for all of them
    together. One anchor (`W0`, the shape of the weight) is in memory at a time: if any tensor is sharded, `anchor_of` is called
    twice for each.
    """
    if all(tensor.sharding is None for tensor in tensors):
        anchored = ((tensor, anchor_of(tensor)) for tensor in tensors)
        return [_first_state(tensor, anchor, _facts(tensor, anchor)) for tensor, anchor in anchored]
    facts = _of_whole_tensors(tensors, [_facts(tensor, anchor_of(tensor)) for tensor in tensors])
    return [_first_state(tensor, anchor_of(tensor), fact) for tensor, fact in zip(tensors, facts, strict=True)]


def low_rank_first_states(tensors: Sequence[LowRankTensor]) -> list[dict[str, Tensor]]:
    """The states of low-rank updates before the first step: the first radius is how far they are from zero."""
    if not tensors:
        return []
    distance_of: dict[str, Tensor] = {}
    for kernels, batch in batches(tensors):
        distance_of |= zip((tensor.name for tensor in batch), kernels.distances(batch).cpu(), strict=True)
    distances = torch.stack([distance_of[tensor.name] for tensor in tensors])
    _, distances = whole_values(tensors, distances.new_zeros(len(tensors), 0), distances)
    return [tensor.first_state(distance) for tensor, distance in zip(tensors, distances, strict=True)]


class _Facts(NamedTuple):
    lossy: list[float]
    """For each dtype narrower than float32, how many parts of the anchor would lose digits in it."""
    distance: Tensor
    """The largest row norm of what the weight and the anchor differ by."""


def _facts(tensor: ProjectedTensor, anchor: Tensor) -> _Facts:
    worth_it = tensor.parameter.dtype == torch.float32 and tensor.parameter.numel() >= _NARROW_FROM
    lossy = [not (worth_it and torch.equal(anchor.to(dtype).to(anchor.dtype), anchor)) for dtype in HELD_DTYPES[1:]]
    return _Facts([*map(float, lossy)], equations.distance(tensor.weight, anchor, tensor.row_dim))


def _of_whole_tensors(tensors: Sequence[ProjectedTensor], facts: Sequence[_Facts]) -> list[_Facts]:
    lossy = torch.tensor([fact.lossy for fact in facts], device="cpu")
    distances = torch.stack([fact.distance.cpu() for fact in facts])
    lossy, distances = whole_values(tensors, lossy, distances)
    return [_Facts(*fact) for fact in zip(lossy.tolist(), distances, strict=True)]


def _first_state(tensor: ProjectedTensor, anchor: Tensor, facts: _Facts) -> dict[str, Tensor]:
    exact = (dtype for dtype, parts in zip(HELD_DTYPES[1:], facts.lossy, strict=True) if not parts)
    return tensor.first_state(anchor, facts.distance, next(exact, tensor.parameter.dtype))
