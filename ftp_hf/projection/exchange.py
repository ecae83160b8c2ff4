"""
What processes that share tensors send to each other: one all-gather a step, of two numbers per tensor.

The radius gradient of a tensor is the sum over its parts, and its largest row norm the largest of theirs, or the sum
where one row is spread over all of them. An all-reduce could add or compare, not both, and two would take twice the time;
gathering a few hundred numbers costs no more, and every process adds them up in the same order.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed
from torch import Tensor

from .equations import RADIUS_FLOOR
from .kernels.dispatch import Kernels
from .low_rank_tensor import LowRankTensor
from .sharding import gathered
from .tensor import ProjectedTensor

__all__ = ["PendingProjection", "gather_shards", "whole_values"]


class PendingProjection(NamedTuple):
    """Tensors that are projected together after the unconstrained step, and what [`Kernels.project`] takes for it."""

    kernels: Kernels
    tensors: list[ProjectedTensor | LowRankTensor]
    gradients: Tensor | None = None
    """`∇γ(t)`, one value per tensor; `None` at the first step."""
    largest: Tensor | None = None
    """The largest row norm of each whole tensor; `None` where the kernels find it by themselves."""

    def project(self) -> list[Tensor]:
        """Learn the radii and project. Returns the parameters that their masters were rounded to on the way."""
        self.kernels.project(self.tensors, self.gradients, self.largest)
        if not self.kernels.ROUNDS_MASTERS:
            return []
        dense = (tensor for tensor in self.tensors if isinstance(tensor, ProjectedTensor))
        return [tensor.source for tensor in dense if tensor.rounded is not None]


def gather_shards(projections: Sequence[PendingProjection]) -> list[PendingProjection]:
    """
    Make the radius gradients of sharded tensors, after the unconstrained step, those of the whole tensors, and find their
    largest row norms. Returns the same projections.
    """
    parts: dict[str, _Part] = {}
    for projection in filter(_is_sharded, projections):
        norms = projection.kernels.distances(projection.tensors)
        gradients = torch.zeros_like(norms) if projection.gradients is None else projection.gradients
        for tensor, gradient, norm in zip(projection.tensors, gradients, norms, strict=True):
            parts[tensor.name] = _Part(tensor, gradient, norm)
    if not parts:
        return list(projections)
    # By name, because which kernels serve a part, and so the order of the projections, may differ between processes.
    ordered = [parts[name] for name in sorted(parts)]
    gradients = torch.stack([part.gradient for part in ordered])
    norms = torch.stack([part.norm for part in ordered])
    gradients, norms = whole_values([part.tensor for part in ordered], gradients.unsqueeze(1), norms)
    gradient_of: dict[str, Tensor] = {}
    norm_of: dict[str, Tensor] = {}
    for part, gradient, norm in zip(ordered, gradients.squeeze(1), norms, strict=True):
        gradient_of[part.tensor.name], norm_of[part.tensor.name] = gradient, norm
    return [_of_whole(projection, gradient_of, norm_of) for projection in projections]


class _Part(NamedTuple):
    tensor: ProjectedTensor | LowRankTensor
    gradient: Tensor
    norm: Tensor


def _is_sharded(projection: PendingProjection) -> bool:
    return projection.tensors[0].sharding is not None


def _of_whole(
    projection: PendingProjection, gradient_of: Mapping[str, Tensor], norm_of: Mapping[str, Tensor]
) -> PendingProjection:
    """The projection with the values of whole tensors, if it is of sharded ones."""
    if not _is_sharded(projection):
        return projection
    dtype = projection.tensors[0].weight.dtype
    gradients = torch.stack([gradient_of[tensor.name] for tensor in projection.tensors]).to(dtype)
    largest = torch.stack([norm_of[tensor.name] for tensor in projection.tensors]).to(dtype)
    return projection._replace(gradients=None if projection.gradients is None else gradients, largest=largest)


def whole_values(
    tensors: Sequence[ProjectedTensor | LowRankTensor], sums: Tensor, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """
    What is true of whole tensors, from what each process knows of its parts. Every process has to call it with the same
    tensors: it is one all-gather for all of them (for each process group, where there are several).

    Args:
        tensors (sequence of `ProjectedTensor` or `LowRankTensor`): sharded or not.
        sums (`Tensor`): values that add up, one row per tensor.
        norms (`Tensor`): the largest row norm of each part (1e-8 is in it), one per tensor; 0 for an empty part.

    Returns:
        `tuple[Tensor, Tensor]`: the sums, and the largest row norm of each whole tensor; in float64 if any is sharded.
    """
    members: dict[torch.distributed.ProcessGroup, list[int]] = {}
    for number, tensor in enumerate(tensors):
        if tensor.sharding is not None:
            members.setdefault(tensor.sharding.group, []).append(number)
    if not members:
        return sums, norms
    values = torch.cat([sums.double(), norms.double().unsqueeze(1)], dim=1)
    for numbers in members.values():
        shardings = [sharding for number in numbers if (sharding := tensors[number].sharding) is not None]
        everything = len(numbers) == len(tensors)
        index = slice(None) if everything else torch.tensor(numbers, device=values.device)
        splits_rows = _mask(tuple(sharding.splits_rows for sharding in shardings), values.device)
        values[index] = _whole(gathered(values[index], shardings[0].group, shardings[0].device_type), splits_rows)
    return values[:, :-1], values[:, -1]


def _whole(parts: Tensor, splits_rows: Tensor) -> Tensor:
    sums, norms = parts[..., :-1].sum(dim=0), parts[..., -1]
    of_one_row = (norms - RADIUS_FLOOR).clamp(min=0).sum(dim=0) + RADIUS_FLOOR
    return torch.cat([sums, torch.where(splits_rows, of_one_row, norms.amax(dim=0)).unsqueeze(1)], dim=1)


@functools.lru_cache(maxsize=32)
def _mask(values: tuple[bool, ...], device: torch.device) -> Tensor:
    # Kept, because sending it at every step would make the host wait for the device.
    return torch.tensor(values, device=device)
