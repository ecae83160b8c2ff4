"""Which kernels project a tensor."""

import functools
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor
from typing_extensions import TypeIs

from ftp_hf.projection.adamw_step import AdamWStep
from ftp_hf.projection.batch import Batch
from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.tensor import ProjectedTensor

from . import cpu, eager, low_rank

__all__ = ["Kernels", "MovingKernels", "batches", "take_adamw_steps"]


class Kernels(Protocol):
    """
    What the modules of kernels have in common. Every function takes tensors as those of a [`Batch`]; of sharded ones, the parts of
    this process, which may be empty.
    """

    ROUNDS_MASTERS: bool
    """Whether `project` rounds the masters of tensors that have a `rounded`."""
    TAKES_ADAMW_STEPS: bool
    """Whether they are [`MovingKernels`]."""

    def radius_gradients(self, batch: Sequence[Any]) -> Tensor:
        """`∇γ(t)`, one value per tensor, before the unconstrained step."""

    def project(self, batch: Sequence[Any], gradients: Tensor | None, largest: Tensor | None = None) -> None:
        """The Adam step on the radii, with gradients, and the projection, after the unconstrained step."""

    def distances(self, batch: Sequence[Any]) -> Tensor:
        """The largest row norm of each displacement, between steps or after the unconstrained step."""


class MovingKernels(Kernels, Protocol):
    """Those that can take AdamW's steps in the pass of the radius gradient."""

    def radius_gradients(self, batch: Sequence[Any], steps: Sequence[AdamWStep | None] = ()) -> Tensor:
        """`∇γ(t)`, one value per tensor, and the steps of the tensors that have one."""


def take_adamw_steps(kernels: Kernels) -> TypeIs[MovingKernels]:
    """Whether kernels are [`MovingKernels`]."""
    return kernels.TAKES_ADAMW_STEPS


def batches(tensors: Sequence[ProjectedTensor | LowRankTensor]) -> Iterator[tuple[Kernels, Batch]]:
    """
    Group the tensors that are computed together, each group with its kernels.

    Args:
        tensors (sequence of `ProjectedTensor` or `LowRankTensor`): with their state.

    Yields:
        `tuple[Kernels, Batch]`
    """
    groups: dict[Any, Batch] = {}
    for tensor in tensors:
        kernels = _kernels_for(tensor)
        key = (kernels, id(tensor.group), tensor.weight.device, tensor.weight.dtype, tensor.sharding is None)
        groups.setdefault(key, Batch()).append(tensor)
    for (kernels, *_), batch in groups.items():
        yield kernels, batch


def _kernels_for(tensor: ProjectedTensor | LowRankTensor) -> Kernels:
    if isinstance(tensor, LowRankTensor):
        return low_rank
    if tensor.weight.is_cuda and tensor.held.is_cuda and _has_triton():
        from . import cuda  # noqa: PLC0415 - a CPU build of torch comes without Triton

        if cuda.takes(tensor):
            return cuda
    return cpu if cpu.takes(tensor) else eager


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
