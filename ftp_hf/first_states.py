"""The state of tensors before their first step: where the anchors are taken, and how they are kept."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import projection
from .exchange import whole_values
from .projected_tensor import HELD_DTYPES, ProjectedTensor

__all__ = ["first_states"]

_NARROW_FROM = 2**16
"""Elements from which a tensor is worth the precision that a 16-bit direction costs at the floor."""


def first_states(
    tensors: Sequence[ProjectedTensor], anchor_of: Callable[[ProjectedTensor], Tensor | None]
) -> list[dict[str, Tensor]]:
    """
    The states before the first step. Sharded tensors take one all-gather, for all of them together.

    Args:
        tensors (`Sequence[ProjectedTensor]`): without state.
        anchor_of (`Callable`): `W0`, the shape of the weight; `None` for the weight itself. It is asked twice, so that
            one anchor at a time is in memory.

    Returns:
        `list[dict[str, Tensor]]`: one state for each tensor.
    """
    if not tensors:
        return []
    facts = [_facts(tensor, anchor_of(tensor)) for tensor in tensors]
    lossy, distances = whole_values(
        tensors, torch.tensor([lossy for lossy, _ in facts]), torch.stack([distance for _, distance in facts])
    )
    return [
        tensor.first_state(_or_weight(anchor_of(tensor), tensor), distance, _narrowest(tensor, loses))
        for tensor, distance, loses in zip(tensors, distances, lossy.tolist(), strict=True)
    ]


def _or_weight(anchor: Tensor | None, tensor: ProjectedTensor) -> Tensor:
    return tensor.weight.detach() if anchor is None else anchor


def _facts(tensor: ProjectedTensor, anchor: Tensor | None) -> tuple[list[bool], Tensor]:
    """Which of the narrower dtypes would lose digits of the anchor, and how far from it the weight is."""
    kept = _or_weight(anchor, tensor)
    worth_it = tensor.parameter.dtype == torch.float32 and tensor.parameter.numel() >= _NARROW_FROM
    lossy = [not (worth_it and torch.equal(kept.to(dtype).to(kept.dtype), kept)) for dtype in HELD_DTYPES[1:]]
    return lossy, projection.distance(tensor.weight.detach(), kept, tensor.row_dim).cpu()


def _narrowest(tensor: ProjectedTensor, lossy: Sequence[float]) -> torch.dtype:
    exact = (dtype for dtype, parts in zip(HELD_DTYPES[1:], lossy, strict=True) if not parts)
    return next(exact, tensor.parameter.dtype)
