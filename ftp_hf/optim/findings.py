"""What a step works out about the parameters, cached for the next steps until a tensor is replaced or moves in memory."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ftp_hf.projection.batch import Batch
from ftp_hf.projection.kernels.dispatch import Kernels, batches
from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.sharding import is_dtensor
from ftp_hf.projection.tensor import ProjectedTensor

from .participants import Participants
from .rounding import is_rounded

__all__ = ["Findings", "findings"]

_BOUNDARY = 16
"""In bytes. Kernels read tensors that are not aligned to it in another way."""


class Findings(NamedTuple):
    """What takes part in a step."""

    signature: "_Signature | None"
    """What it was worked out from; `None` if nothing can be cached."""
    tensors: list[ProjectedTensor | LowRankTensor]
    """Empty where only the signature is kept."""
    learning: list[tuple[Kernels, Batch]]
    """Those that have taken a step before."""
    are_kept: bool
    """Whether the signature was the same at the step before, so that it may be at the next one."""

    def between_steps(self) -> "Findings | None":
        """What to cache until the next step; `None` if caching is impossible."""
        if self.signature is None:
            return None
        # An optimizer that replaces its state at every step would hold on to the old one.
        return self if self.are_kept else Findings(self.signature._replace(objects=[]), [], [], are_kept=False)


class _Signature(NamedTuple):
    """A fingerprint of what cached findings depend on: object ids and memory addresses."""

    parts: list[Any]
    objects: list[Any]
    """The objects whose ids are in `parts`: while they are referenced, no other object can get these ids."""


def findings(participants: Participants, before: Findings | None) -> Findings:
    """
    What takes part in a step: the findings of the last step (`before`), where nothing has changed.

    Raises:
        ValueError: as [`Participants.with_gradient`].
    """
    signature = _signature(participants)
    same = before and before.signature and signature and before.signature.parts == signature.parts
    if before and same and before.are_kept:
        return before
    tensors = participants.with_gradient()
    learning = list(batches([tensor for tensor in tensors if tensor.has_state]))
    return Findings(signature, tensors, learning, are_kept=bool(same))


def _signature(participants: Participants) -> _Signature | None:
    """The fingerprint of a step; `None` with low-rank updates, sparse or sharded tensors, or masters that last for one step."""
    if participants.low_rank or any(map(is_rounded, participants.groups)):
        return None
    signature = _Signature([dict(participants.rows), dict(participants.pretrained_rows)], [])
    for group in participants.groups:
        signature.objects.append(group)
        signature.parts.append((id(group), group["project"]))
        if group["project"] and not _add_group(signature, group, participants.state):
            return None
    return signature


def _add_group(
    signature: _Signature,
    group: dict[str, Any],
    state: Mapping[Tensor, dict[str, Any]],
) -> bool:
    """
    Add a param group to a signature. Returns whether that was possible. It runs on the host at every step, and a GPU may wait
    for it: one list per property takes half the time of one list of everything.
    """
    everything = group["params"]
    gradients = [each.grad for each in everything]
    moving = [index for index, gradient in enumerate(gradients) if gradient is not None]
    parameters, given = ([each[index] for index in moving] for each in (everything, gradients))
    if any(each.layout != torch.strided for each in given) or any(map(is_dtensor, parameters)):
        return False
    kept = [state.get(each, {}).values() for each in parameters]
    held = [value for values in kept for value in values if isinstance(value, Tensor)]
    objects = (*everything, *held)
    signature.objects.extend(objects)
    signature.parts.extend(
        (
            (tuple(group["exclude"]), tuple(group["transposed"]), tuple(group.get("param_names") or ())),
            [*map(id, objects)],
            moving,
            # Where a gradient is may be another place at every step.
            [each.data_ptr() % _BOUNDARY for each in given],
            [each.dtype for each in given],
            [*map(Tensor.stride, given)],
            [each.shape for each in parameters],
            [*map(Tensor.stride, parameters)],
            [*map(Tensor.data_ptr, parameters)],
            [*map(len, kept)],
            [*map(Tensor.data_ptr, held)],
        )
    )
    return True
