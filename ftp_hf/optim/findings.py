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
    """With their gradients, for the time of the step. None where only the signature is kept."""
    learning: list[tuple[Kernels, Batch]]
    """Those that have taken a step before."""
    are_kept: bool
    """Whether the signature was the same at the step before, so that it may be at the next one."""

    def between_steps(self) -> "Findings | None":
        """What is kept of it: no gradients, and nothing at all where it would be of no use."""
        if self.signature is None:
            return None
        for tensor in self.tensors:
            if isinstance(tensor, ProjectedTensor):
                tensor.grad = None
        # An optimizer that replaces its state at every step would hold on to the old one.
        return self if self.are_kept else Findings(self.signature._replace(objects=[]), [], [], are_kept=False)


class _Signature(NamedTuple):
    """What findings are of: objects, by number, and places in memory."""

    parts: list[Any]
    objects: list[Any]
    """Those that have a number, which no other takes while they are here."""


def findings(participants: Participants, parameter_of: Mapping[Tensor, Tensor], before: Findings | None) -> Findings:
    """
    What takes part in a step.

    Args:
        participants ([`Participants`]): the parameters that are looked at, with masters in place.
        parameter_of (mapping from `Tensor` to `Tensor`): the parameters that masters stand in for.
        before ([`Findings`] or `None`): of the last step, which are returned where nothing has changed.

    Raises:
        ValueError: as [`Participants.with_gradient`].
    """
    signature = _signature(participants, parameter_of)
    same = before and before.signature and signature and before.signature.parts == signature.parts
    if before and same and before.are_kept:
        for tensor in before.tensors:
            if isinstance(tensor, ProjectedTensor):
                tensor.take_gradient(parameter_of.get(tensor.parameter, tensor.parameter).grad)
        return before
    tensors = participants.with_gradient(parameter_of)
    learning = list(batches([tensor for tensor in tensors if tensor.has_state]))
    return Findings(signature, tensors, learning, are_kept=bool(same))


def _signature(participants: Participants, parameter_of: Mapping[Tensor, Tensor]) -> _Signature | None:
    """That of a step; `None` where masters come and go, or tensors are not simply somewhere in memory."""
    if participants.low_rank:
        return None
    parts: list[Any] = [dict(participants.rows), dict(participants.pretrained_rows)]
    objects: list[Any] = []
    for group in participants.groups:
        if is_rounded(group):
            return None
        objects.append(group)
        parts.append((id(group), group["project"]))
        if not group["project"]:
            continue
        parts += (tuple(group["exclude"]), tuple(group["transposed"]), tuple(group.get("param_names") or ()))
        for parameter in group["params"]:
            source = parameter_of.get(parameter, parameter)
            gradient = source.grad
            objects.append(parameter)
            parts.append(id(parameter))
            if gradient is None:
                continue
            if gradient.layout != torch.strided or is_dtensor(parameter):
                return None
            # Where a gradient is may be another place at every step.
            parts += (gradient.data_ptr() % _BOUNDARY, gradient.stride(), gradient.dtype)
            parts += (parameter.data_ptr(), parameter.shape, parameter.stride(), source.data_ptr())
            for value in participants.state.get(parameter, {}).values():
                if isinstance(value, Tensor):
                    objects.append(value)
                    parts += (id(value), value.data_ptr())
    return _Signature(parts, objects)
