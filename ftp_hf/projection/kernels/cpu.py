"""The projection of float32 weights on the CPU, with row kernels in C++."""

import ctypes
import functools
import itertools
import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ftp_hf.projection.adamw_step import AdamWNumbers, AdamWStep
from ftp_hf.projection.batch import remembered
from ftp_hf.projection.layout import Grid
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.rates import fan_ins
from ftp_hf.projection.tensor import GRADIENT_DTYPES, HELD_DTYPES, ProjectedTensor

from .blocks import Block, blocks_of_rows
from .cpu_library import PANEL, library
from .driver import project_at_radii

__all__ = ["ROUNDS_MASTERS", "TAKES_ADAMW_STEPS", "distances", "project", "radius_gradients", "takes"]

ROUNDS_MASTERS = True
TAKES_ADAMW_STEPS = True

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
        and (grid.outer == 1 or grid.inner <= PANEL)
        and library() is not None
    )


def radius_gradients(batch: Sequence[ProjectedTensor], steps: Sequence[AdamWStep | None] = ()) -> Tensor:
    """
    `∇γ(t)` of every tensor, as in [`eager.radius_gradients`]; and AdamW's steps, which then do not read weights and gradients
    once more: 44 bytes a parameter are moved in all, of float32, instead of 52.

    Args:
        batch (sequence of `ProjectedTensor`): tensors that have taken a step, before the unconstrained step.
        steps (sequence of [`AdamWStep`] or `None`, *optional*): one for each tensor, or none.

    Returns:
        `Tensor`: one value per tensor.
    """
    tensors, blocks, owners = _plan(batch, steps)
    gradients = torch.empty(len(blocks), dtype=torch.float64, device="cpu")
    rows = [tensor.radius_row for tensor in batch]
    radii = RadiusState.gather(rows)
    _run("ftp_radius_gradients", [tensors, radii.radius, radii.at_floor, blocks], [gradients])
    if radii.at_floor.any():
        radii._replace(at_floor=torch.zeros_like(radii.at_floor)).scatter(rows)
    return gradients.new_zeros(len(batch)).index_add_(0, owners, gradients).float()


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """Learn the radii and project every tensor, as in [`eager.project`], and round those that have a `rounded`."""
    project_rows = functools.partial(_project_rows, batch, largest=largest)
    project_at_radii(project_rows, batch, gradients, largest, reaches=functools.partial(fan_ins, batch))


def distances(batch: Sequence[ProjectedTensor]) -> Tensor:
    """The largest row norm of each displacement, as in [`eager.distances`]."""
    tensors, blocks, owners = _plan_without_gradients(batch)
    found = _zeros(len(blocks))
    _run("ftp_distances", [tensors, blocks], [found])
    return _largest(found, owners, len(batch))


def _project_rows(batch: Sequence[ProjectedTensor], radii: Tensor, largest: Tensor | None) -> tuple[Tensor, Tensor]:
    tensors, blocks, owners = _plan_without_gradients(batch)
    found, projected = _zeros(len(blocks)), _zeros(len(blocks))
    row_norms = _zeros(len(batch)) if largest is None else largest
    _run("ftp_project", [tensors, radii, row_norms, blocks], [found, projected])
    return _largest(found, owners, len(batch)), _zeros(len(batch)).index_add_(0, owners, projected)


def _largest(of_blocks: Tensor, owners: Tensor, count: int) -> Tensor:
    return _zeros(count).scatter_reduce_(0, owners, of_blocks, "amax")


def _zeros(count: int) -> Tensor:
    # Of no default dtype or device of torch's: cpu.cpp gets their addresses, and reads them as floats.
    return torch.zeros(count, dtype=torch.float32, device="cpu")


class _Tensor(NamedTuple):
    """The fields of a `Tensor` of cpu.cpp, of eight bytes each except the last."""

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
    """Those of [`AdamWNumbers`], of four bytes each."""

    def packed(self) -> bytes:
        """As it lies in memory."""
        *head, grid, is_fragment, rounded, exp_avg, exp_avg_sq, step = self
        return _PACKED.pack(*head, *grid, is_fragment, rounded, exp_avg, exp_avg_sq, *step)


_NO_STEP = (0.0,) * len(AdamWNumbers._fields)
_PACKED = struct.Struct(f"{len(_Tensor._fields) - 2 + len(Grid._fields)}q{len(_NO_STEP)}f")


def _plan_without_gradients(batch: Sequence[ProjectedTensor]) -> tuple[Tensor, Tensor, Tensor]:
    """As [`_plan`], for what reads no gradients, which are often elsewhere than at the step before."""
    return remembered(batch, _plan, functools.partial(_plan, batch))


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
                step=_NO_STEP if step is None else step.numbers(),
            ).packed()
        )
    return torch.frombuffer(fields, dtype=torch.uint8), *_blocks(tuple(shapes))


@functools.lru_cache(maxsize=16)
def _blocks(shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """One `Block` of cpu.cpp per row, and the tensor that each of them belongs to."""
    rows = blocks_of_rows(shapes, _BLOCK_ELEMENTS)
    blocks = torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(-1, len(Block._fields))
    return blocks, blocks[:, 0].contiguous()


def _run(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    arguments = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *outputs)]
    getattr(library(), name)(ctypes.c_int64(len(outputs[0])), *arguments)
