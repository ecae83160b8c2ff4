"""The projection of float32 weights on the CPU, with row kernels that are compiled when the first step is taken."""

import ctypes
import functools
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .projected_tensor import ProjectedTensor
from .radii import RadiusState

__all__ = ["project", "radius_gradients", "takes"]

logger = logging.getLogger(__name__)

HELD_TYPES = (torch.float32, torch.bfloat16, torch.float16)

_SOURCE = Path(__file__).with_suffix(".cpp")
# Not linked to an OpenMP of its own: the symbols are those of the one that torch has loaded, so that the kernels run in
# torch's threads, as many as torch.set_num_threads() says.
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-exceptions"),
    *("-fPIC", "-shared", "-nodefaultlibs"),
)
_BLOCK_ELEMENTS = 2**15


def takes(tensor: ProjectedTensor) -> bool:
    """Whether these kernels serve a tensor: float32, on the CPU, its rows one after another in memory, a compiler."""
    return (
        tensor.weight.dtype == torch.float32
        and tensor.weight.device.type == "cpu"
        and tensor.held.dtype in HELD_TYPES
        and tensor.layout == ((tensor.shape[1], 1),) * 3
        and _library() is not None
    )


def radius_gradients(batch: Sequence[ProjectedTensor]) -> Tensor:
    """`∇γ(t)` of every tensor, as in [`eager_kernels.radius_gradients`]."""
    blocks, owners = _blocks(tuple(tensor.shape for tensor in batch))
    gradients = torch.empty(len(blocks), dtype=torch.float64)
    radii = RadiusState.gather([tensor.radius_row for tensor in batch])
    _run("ftp_radius_gradients", [_addresses(batch), radii.radius, radii.at_floor, blocks], [gradients])
    return torch.zeros(len(batch), dtype=torch.float64).index_add_(0, owners, gradients).float()


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None) -> None:
    """Learn the radii and project every tensor, as in [`eager_kernels.project`]."""
    blocks, owners = _blocks(tuple(tensor.shape for tensor in batch))
    largest, projected = torch.zeros(len(blocks)), torch.zeros(len(blocks))
    rows = [tensor.radius_row for tensor in batch]
    radii = RadiusState.gather(rows)
    if gradients is not None:
        radii = radii.learned(gradients, batch[0].group)
    _run("ftp_project", [_addresses(batch), radii.radius, blocks], [largest, projected])
    radii.settled(
        torch.zeros(len(batch)).scatter_reduce_(0, owners, largest, "amax"),
        torch.zeros(len(batch)).index_add_(0, owners, projected),
    ).scatter(rows)


def _addresses(batch: Sequence[ProjectedTensor]) -> Tensor:
    """One `Tensor` of cpu_kernels.cpp per row."""
    return torch.tensor(
        [
            (
                tensor.weight.data_ptr(),
                tensor.held.data_ptr(),
                tensor.gradient.data_ptr(),
                HELD_TYPES.index(tensor.held.dtype),
                tensor.shape[1],
            )
            for tensor in batch
        ]
    )


@functools.lru_cache(maxsize=16)
def _blocks(shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """One `Block` of cpu_kernels.cpp per row, and the tensor that each belongs to."""
    blocks = [
        (number, start, min(start + step, rows))
        for number, (rows, columns) in enumerate(shapes)
        for step in [max(1, _BLOCK_ELEMENTS // columns)]
        for start in range(0, rows, step)
    ]
    table = torch.tensor(blocks)
    return table, table[:, 0].contiguous()


def _run(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    arguments = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *outputs)]
    getattr(_library(), name)(ctypes.c_int64(len(outputs[0])), *arguments)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled kernels, or `None`, with one line in the log, where they cannot be had."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        logger.warning(_FALLBACK, "no C++ compiler was found (install g++ or clang, or set CXX)")
        return None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, "cpu_kernels.so")
        # For this very machine: each process compiles for itself, in about a second, and nothing is left behind.
        command = [*compiler.split(), *_FLAGS, str(_SOURCE), "-o", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            return ctypes.CDLL(str(path))
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip()
            logger.warning(_FALLBACK, f"{compiler} failed: {reason}")
            return None


_FALLBACK = "The projection runs on torch's own operations, with the same results but several times slower: %s"
