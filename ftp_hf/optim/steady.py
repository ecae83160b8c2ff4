"""What a step finds out of the parameters, kept for the next ones for as long as nothing is replaced or moves in memory."""

from collections.abc import Mapping, Sequence
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

__all__ = ["Found", "found"]

_BOUNDARY = 16
"""Bytes; kernels read in other ways what does not begin at one."""


class Found(NamedTuple):
    """What takes part in a step."""

    tensors: list[ProjectedTensor | LowRankTensor]
    """With their gradients, for the time of the step."""
    learning: list[tuple[Kernels, Batch]]
    """Those that have taken a step before."""
    signature: tuple[Any, ...] | None
    """What it was found from: objects and places in memory, by number. `None` if it is to be found anew at every step."""
    alive: list[Any]
    """The objects, so that no others take their numbers."""

    def dense(self) -> list[ProjectedTensor]:
        """The tensors that are projected themselves."""
        return [tensor for tensor in self.tensors if isinstance(tensor, ProjectedTensor)]

    def leave_gradients(self) -> None:
        """Keep nothing that the training frees between steps."""
        for tensor in self.dense():
            tensor.grad = None


def found(participants: Participants, parameter_of: Mapping[Tensor, Tensor], before: Found | None) -> Found:
    """
    What takes part in a step.

    Args:
        participants ([`Participants`]): the parameters that are looked at, with masters in place.
        parameter_of (mapping from `Tensor` to `Tensor`): the parameters that masters stand in for.
        before ([`Found`] or `None`): what took part in the last step, which is the same where nothing has changed.

    Raises:
        ValueError: as [`Participants.with_gradient`].
    """
    signature = None if participants.low_rank else _signature(participants.groups, participants.state, parameter_of)
    if before is not None and signature is not None and signature == before.signature:
        for tensor in before.dense():
            tensor.take_gradient(parameter_of.get(tensor.parameter, tensor.parameter).grad)
        return before
    tensors = participants.with_gradient(parameter_of)
    learning = list(batches([tensor for tensor in tensors if tensor.has_state]))
    alive = [] if signature is None else _objects(participants.groups, participants.state)
    return Found(tensors, learning, signature, alive)


def _signature(
    groups: Sequence[dict[str, Any]], state: Mapping[Tensor, dict[str, Any]], parameter_of: Mapping[Tensor, Tensor]
) -> tuple[Any, ...] | None:
    """Of what a step is found from; `None` where masters come and go, or tensors are not simply somewhere in memory."""
    parts: list[Any] = []
    for group in groups:
        if is_rounded(group):
            return None
        names = group.get("param_names") or ()
        parts.append((id(group), group["project"], tuple(group["exclude"]), tuple(group["transposed"]), tuple(names)))
        for parameter in group["params"]:
            source = parameter_of.get(parameter, parameter)
            gradient = source.grad
            if gradient is None:
                parts.append(id(parameter))
                continue
            if gradient.layout != torch.strided or is_dtensor(parameter):
                return None
            place = (parameter.data_ptr(), source.data_ptr(), parameter.shape, parameter.stride())
            # Where a gradient is may be another place at every step.
            likeness = (gradient.data_ptr() % _BOUNDARY, gradient.stride(), gradient.dtype)
            parts.append((id(parameter), place, likeness, *map(id, state.get(parameter, {}).values())))
    return tuple(parts)


def _objects(groups: Sequence[dict[str, Any]], state: Mapping[Tensor, dict[str, Any]]) -> list[Any]:
    parameters = [parameter for group in groups for parameter in group["params"]]
    return [*groups, *parameters, *(value for each in parameters for value in state.get(each, {}).values())]
