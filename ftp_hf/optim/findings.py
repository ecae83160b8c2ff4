"""What a step finds out of the parameters, kept for the next ones for as long as nothing is replaced or moves in memory."""

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
"""Bytes; kernels read in other ways what does not begin at one."""


class Findings(NamedTuple):
    """What takes part in a step."""

    signature: "_Signature | None"
    """What it was found from; `None` if it is to be found anew at every step."""
    tensors: list[ProjectedTensor | LowRankTensor]
    """None where only the signature is kept."""
    learning: list[tuple[Kernels, Batch]]
    """Those that have taken a step before."""
    are_kept: bool
    """Whether the signature was the same at the step before, so that it may be at the next one."""

    def between_steps(self) -> "Findings | None":
        """What is kept of it: nothing at all where it would be of no use."""
        if self.signature is None:
            return None
        # An optimizer that replaces its state at every step would hold on to the old one.
        return self if self.are_kept else Findings(self.signature._replace(objects=[]), [], [], are_kept=False)


class _Signature(NamedTuple):
    """What findings are of: objects, by number, and places in memory."""

    parts: list[Any]
    objects: list[Any]
    """Those that have a number, which no other takes while they are here."""


def findings(participants: Participants, before: Findings | None) -> Findings:
    """
    What takes part in a step.

    Args:
        participants ([`Participants`]): the parameters that are looked at, with their masters.
        before ([`Findings`] or `None`): of the last step, which are returned where nothing has changed.

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
    """That of a step; `None` where masters come and go, or tensors are not simply somewhere in memory."""
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
    Add what a param group has to a signature; whether that could be done. The host does so at every step, and a GPU may wait for
    it: hence lists of one thing each, which take half the time of one list of all.
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
