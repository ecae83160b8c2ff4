"""The projection of float32 weights on the CPU, with row kernels that are compiled when the first step is taken."""

import ctypes
import functools
import itertools
import logging
import os
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ftp_hf.projection.adamw_step import AdamWStep
from ftp_hf.projection.equations import RADIUS_FLOOR
from ftp_hf.projection.layout import Grid
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.rates import fan_ins
from ftp_hf.projection.tensor import GRADIENT_DTYPES, HELD_DTYPES, Block, ProjectedTensor, blocks_of_rows

from .driver import project_at_radii

__all__ = ["distances", "project", "radius_gradients", "takes"]

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_suffix(".cpp")
_PANEL = 512
"""Elements that lie side by side in rows which are worked on together, where a row is spread over many places."""
# Not linked to an OpenMP of its own: the symbols are those of the one that torch has loaded, so that the kernels run in
# torch's threads, as many as torch.set_num_threads() says.
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-exceptions"),
    *("-fPIC", "-shared", "-nodefaultlibs", f"-DRADIUS_FLOOR={RADIUS_FLOOR}f", f"-DPANEL={_PANEL}"),
)
_BLOCK_ELEMENTS = 2**17
_LEAST_ROWS = 128
"""In a block of rows that are spread over many places."""


def takes(tensor: ProjectedTensor) -> bool:
    """Whether these kernels serve a tensor: float32, on the CPU, laid out as a [`Grid`], a compiler."""
    return (
        tensor.weight.dtype == torch.float32
        and tensor.weight.device.type == "cpu"
        and tensor.held.dtype in HELD_DTYPES
        and (tensor.grad is None or tensor.grad.dtype in GRADIENT_DTYPES)
        and (tensor.rounded is None or tensor.rounded.stride() == tensor.weight.stride())
        and (grid := tensor.grid) is not None
        and (grid.outer == 1 or grid.inner <= _PANEL)
        and _library() is not None
    )


def radius_gradients(batch: Sequence[ProjectedTensor], steps: Sequence[AdamWStep | None] = ()) -> Tensor:
    """
    `∇γ(t)` of every tensor, as in [`eager.radius_gradients`]; and AdamW's steps, which then do not read weights and gradients
    once more: 44 bytes a parameter are moved in all, of float32, in the place of 52.

    Args:
        batch (sequence of `ProjectedTensor`): tensors that have taken a step, before the unconstrained step.
        steps (sequence of [`AdamWStep`] or `None`, *optional*): one for each tensor, or none.

    Returns:
        `Tensor`: one value per tensor.
    """
    tensors, blocks, owners = _plan(batch, steps)
    gradients = torch.empty(len(blocks), dtype=torch.float64)
    radii = RadiusState.gather([tensor.radius_row for tensor in batch])
    _run("ftp_radius_gradients", [tensors, radii.radius, radii.at_floor, blocks], [gradients])
    return torch.zeros(len(batch), dtype=torch.float64).index_add_(0, owners, gradients).float()


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """Learn the radii and project every tensor, as in [`eager.project`], and round those that have a `rounded`."""
    project_at_radii(_project_rows, batch, gradients, largest, reaches=fan_ins)


def distances(batch: Sequence[ProjectedTensor]) -> Tensor:
    """The largest row norm of each displacement, as in [`eager.distances`]."""
    tensors, blocks, owners = _plan(batch)
    found = torch.empty(len(blocks))
    _run("ftp_distances", [tensors, blocks], [found])
    return _largest(found, owners, len(batch))


def _project_rows(batch: Sequence[ProjectedTensor], radii: Tensor, largest: Tensor | None) -> tuple[Tensor, Tensor]:
    tensors, blocks, owners = _plan(batch)
    found, projected = torch.zeros(len(blocks)), torch.zeros(len(blocks))
    row_norms = torch.zeros(len(batch)) if largest is None else largest
    _run("ftp_project", [tensors, radii, row_norms, blocks], [found, projected])
    return _largest(found, owners, len(batch)), torch.zeros(len(batch)).index_add_(0, owners, projected)


def _largest(of_blocks: Tensor, owners: Tensor, count: int) -> Tensor:
    return torch.zeros(count).scatter_reduce_(0, owners, of_blocks, "amax")


class _Tensor(NamedTuple):
    """The fields of a `Tensor` of cpu.cpp, of eight bytes each but for the last."""

    weight: int
    held: int
    gradient: int
    held_type: int
    gradient_type: int
    grid: Grid
    is_fragment: int
    rounded: int
    exp_avg: int
    exp_avg_sq: int
    step: tuple[float, ...]
    """The numbers of an [`AdamWStep`], of four bytes each."""

    def packed(self) -> bytes:
        """As it lies in memory."""
        numbers = [number for field in self[:-1] for number in (field if isinstance(field, tuple) else [field])]
        return struct.pack(f"{len(numbers)}q{len(self.step)}f", *numbers, *self.step)


_NO_STEP = (0.0,) * (len(AdamWStep._fields) - 2)


def _plan(batch: Sequence[ProjectedTensor], steps: Sequence[AdamWStep | None] = ()) -> tuple[Tensor, Tensor, Tensor]:
    """One `Tensor` of cpu.cpp per row, the blocks, and the tensor that each of them belongs to."""
    shapes, fields = [], bytearray()
    for tensor, step in itertools.zip_longest(batch, steps):
        grid = tensor.grid or Grid(1, 0, 0, 1, 0, 1)  # of no elements
        rows, columns = tensor.shape
        # Of few rows that are spread, each place would be too short a read.
        shapes.append((rows, columns if grid.outer == 1 else min(columns, _BLOCK_ELEMENTS // _LEAST_ROWS)))
        fields.extend(
            _Tensor(
                weight=tensor.weight.data_ptr(),
                held=tensor.held.data_ptr(),
                gradient=0 if tensor.grad is None else tensor.grad.data_ptr(),
                held_type=HELD_DTYPES.index(tensor.held.dtype),
                gradient_type=0 if tensor.grad is None else GRADIENT_DTYPES.index(tensor.grad.dtype),
                grid=grid,
                is_fragment=tensor.is_fragment,
                rounded=0 if tensor.rounded is None else tensor.rounded.data_ptr(),
                exp_avg=0 if step is None else step.exp_avg.data_ptr(),
                exp_avg_sq=0 if step is None else step.exp_avg_sq.data_ptr(),
                step=_NO_STEP if step is None else step[2:],
            ).packed()
        )
    return torch.frombuffer(fields, dtype=torch.uint8), *_blocks(tuple(shapes))


@functools.lru_cache(maxsize=16)
def _blocks(shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """One `Block` of cpu.cpp per row, and the tensor that each of them belongs to."""
    blocks = torch.tensor(blocks_of_rows(shapes, _BLOCK_ELEMENTS), dtype=torch.int64).reshape(-1, len(Block._fields))
    return blocks, blocks[:, 0].contiguous()


def _run(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    arguments = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *outputs)]
    getattr(_library(), name)(ctypes.c_int64(len(outputs[0])), *arguments)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled kernels, or `None`, with one line in the log, where they cannot be had."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else [*filter(shutil.which, ("c++", "g++", "clang++"))]
    reason = "no C++ compiler was found (install g++, or set CXX)"
    for compiler in compilers:
        try:
            return _compile(compiler)
        except (OSError, subprocess.CalledProcessError) as error:  # noqa: PERF203 - there are three at most
            reason = f"{compiler} failed: {getattr(error, 'stderr', None) or error}".strip()
    logger.warning("The projection runs on torch's own operations, several times slower: %s", reason)
    return None


def _compile(compiler: str) -> ctypes.CDLL:
    # For this very machine: each process compiles for itself, in about a second, and leaves nothing behind.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, "kernels.so")
        command = [*shlex.split(compiler), *_FLAGS, str(_SOURCE), "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return ctypes.CDLL(str(path))
