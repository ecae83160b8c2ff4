"""
Tensors that are spread over processes as `DTensor`s (FSDP2).

Each process keeps the rows that it trains, with their anchors and moments, so that its memory falls with the number of
processes. The radius belongs to the whole tensor, and every process keeps the same: exchange.py says how.
"""

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import ProcessGroup
from typing_extensions import TypeIs

from .equations import RowDim, row_dims

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement

__all__ = [
    "Sharding",
    "check_rows_are_whole",
    "gathered",
    "is_dtensor",
    "like",
    "local",
    "local_part_of",
    "local_rows",
    "shard_number",
    "whole_tensors",
]

# Renamed in torch 2.13; the old name warns at every call.
_ALL_GATHER = "all_gather_single" if hasattr(torch.distributed, "all_gather_single") else "all_gather_into_tensor"


def is_dtensor(tensor: object) -> "TypeIs[DTensor]":
    """Whether it is a `DTensor`. None exists before its module was imported, which takes a second: it is not imported here."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


class Sharding(NamedTuple):
    """How a tensor is spread over processes."""

    group: ProcessGroup
    device_type: str
    """Of the tensors that the group can send: not that of the weights, where FSDP2 offloads them to the CPU."""
    splits_rows: bool
    """Whether the tensor is one row, of which each process has a part. (Else each has whole rows.)"""

    @classmethod
    def of(cls, name: str, tensor: Tensor, row_dim: RowDim) -> "Sharding | None":
        """
        How a parameter is sharded, called `name` in errors; `None` for an ordinary tensor, and for a `DTensor` that every
        process has all of.

        Raises:
            ValueError: rows of a matrix are cut through, or the tensor is cut along two dimensions of the mesh.
        """
        check_rows_are_whole(name, tensor, row_dim)
        if not is_dtensor(tensor) or not (cuts := _cuts(tensor.placements)):
            return None
        # Not kept: a mesh is equal to one of process groups that were destroyed since.
        mesh = tensor.device_mesh
        return cls(mesh.get_group(cuts[0]), mesh.device_type, splits_rows=tensor.ndim < 2)


def check_rows_are_whole(name: str, tensor: Tensor, row_dim: RowDim) -> None:
    """Raise if a tensor is sharded in a way that cannot be projected: with the arguments and the error of [`Sharding.of`]."""
    if is_dtensor(tensor) and (reason := _why_not(tensor.placements, tensor.ndim, row_dim)):
        raise ValueError(f"{name} is sharded as {tensor.placements}: {reason}")


@functools.lru_cache(maxsize=64)
def _why_not(placements: "tuple[Placement, ...]", ndim: int, row_dim: RowDim) -> str | None:
    cuts = _cuts(placements)
    if len(cuts) > 1 or any(not _is_even(placements[dim]) for dim in cuts):
        return (
            "projection knows tensors that are cut along one dimension of the device mesh (FSDP2, with or without "
            "replication). Train without tensor parallelism, or put the parameter in a param group with project=False"
        )
    rows = row_dims(row_dim, ndim)
    if rows and any(not any(map(placements[dim].is_shard, rows)) for dim in cuts):
        return (
            f"its rows (output units) are dimension {' × '.join(map(str, rows))}, and each process would have a part of "
            f"every row. Shard it along dimension {' or '.join(map(str, rows))} (shard_placement_fn of fully_shard), train "
            "with DDP, or put it in a param group with project=False"
        )
    return None


def _cuts(placements: "tuple[Placement, ...]") -> list[int]:
    """The dimensions of the mesh along which a tensor differs from process to process."""
    return [dim for dim, placement in enumerate(placements) if not placement.is_replicate()]


def _is_even(placement: "Placement") -> bool:
    """Whether the parts are of equal size but the last, which subclasses of `Shard` do not promise."""
    from torch.distributed.tensor import Shard  # noqa: PLC0415 - imported already, for there is a placement

    return type(placement) is Shard


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has: its memory, not a copy, if gradients are disabled."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def local_rows(tensor: Tensor, count: int) -> int:
    """How many of the first `count` indices of dimension 0 are in the part of a tensor that this process has."""
    if is_dtensor(tensor) and (cut := _only_cut(tensor.placements)) is not None and tensor.placements[cut].is_shard(0):
        mesh = tensor.device_mesh
        count -= mesh.get_local_rank(cut) * -(-tensor.shape[0] // mesh.size(cut))
    return min(max(count, 0), local(tensor).shape[0])


def shard_number(tensor: Tensor) -> int:
    """Which part of a tensor this process has, from 0 on; 0 if it has all of it."""
    number = 0
    if is_dtensor(tensor):
        for cut in _cuts(tensor.placements):
            number = number * tensor.device_mesh.size(cut) + tensor.device_mesh.get_local_rank(cut)
    return number


def like(tensor: Tensor, part: Tensor, **options: Any) -> Tensor:
    """
    A new tensor that is sharded like another one, a `DTensor` if that is one. `part` has the values of the part that this
    process has, in the shape of `local(tensor)`; `options` are `dtype`, `device` and `pin_memory`, as for `torch.empty_like`.
    """
    # Not DTensor.from_local, which moves a part that is on the CPU to the device of the mesh.
    new = torch.empty_like(tensor, **options)
    local(new).copy_(part)
    return new


def local_part_of(whole: Tensor, tensor: Tensor) -> Tensor:
    """
    The part of a whole tensor that this process would have, were it sharded like another one of its shape; in the shape of
    `local(tensor)`. The whole tensor may be a `DTensor` that is sharded in any way.
    """
    if not is_dtensor(tensor):
        return whole
    if is_dtensor(whole):
        return whole.redistribute(tensor.device_mesh, tensor.placements).to_local()
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - imported already, for there is a DTensor

    # Every process has the whole tensor, so nothing has to be sent.
    return distribute_tensor(whole, tensor.device_mesh, tensor.placements, src_data_rank=None).to_local()


def gathered(values: Tensor, group: ProcessGroup, device_type: str) -> Tensor:
    """
    The values of every process, of one shape on all, along a new first dimension. `device_type` is of the tensors that the
    group can send.
    """
    sent = values.to(device_type).contiguous()
    processes = torch.distributed.get_world_size(group)
    received = sent.new_empty(processes * len(sent), *sent.shape[1:])
    getattr(torch.distributed, _ALL_GATHER)(received, sent, group=group)
    return received.view(processes, *sent.shape).to(values.device)


def whole_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """
    Whole tensors, from the parts of all processes: one all-gather for all of one dtype (and process group), where
    `DTensor.full_tensor` takes one or more for each. Every process has to call it, with the same tensors; ordinary ones are
    returned as they are.
    """
    whole: dict[int, Tensor] = {}
    together: dict[tuple[ProcessGroup, str, torch.dtype], list[int]] = {}
    for number, tensor in enumerate(tensors):
        if not is_dtensor(tensor):
            whole[number] = tensor
        elif (cut := _only_cut(tensor.placements)) is None:
            whole[number] = tensor.full_tensor()
        else:
            mesh = tensor.device_mesh
            together.setdefault((mesh.get_group(cut), mesh.device_type, tensor.dtype), []).append(number)
    for (group, device_type, _), numbers in together.items():
        whole |= zip(
            numbers, _gathered_tensors([tensors[number] for number in numbers], group, device_type), strict=True
        )
    return [whole[number] for number in range(len(tensors))]


def _gathered_tensors(tensors: Sequence[Any], group: ProcessGroup, device_type: str) -> list[Tensor]:
    dims = [next(placement.dim for placement in tensor.placements if placement.is_shard()) for tensor in tensors]
    processes = torch.distributed.get_world_size(group)
    parts = [_padded_part(tensor, dim, processes) for tensor, dim in zip(tensors, dims, strict=True)]
    received = gathered(torch.cat([part.flatten() for part in parts]), group, device_type)
    of_each = torch.split(received, [part.numel() for part in parts], dim=1)
    return [
        values.reshape(-1, *part.shape[1:])[: tensor.shape[dim]].movedim(0, dim)
        for tensor, dim, part, values in zip(tensors, dims, parts, of_each, strict=True)
    ]


def _padded_part(tensor: "DTensor", dim: int, processes: int) -> Tensor:
    """The part of this process, sharded dimension first, filled up to the size of the largest part."""
    part = tensor.to_local().detach().movedim(dim, 0)
    padded = part.new_zeros(-(-tensor.shape[dim] // processes), *part.shape[1:])
    padded[: len(part)] = part
    return padded


def _only_cut(placements: "tuple[Placement, ...]") -> int | None:
    """The dimension of the mesh along which a tensor is cut into parts of equal size but the last; `None` if it is otherwise."""
    cuts = _cuts(placements)
    return cuts[0] if len(cuts) == 1 and _is_even(placements[cuts[0]]) else None
