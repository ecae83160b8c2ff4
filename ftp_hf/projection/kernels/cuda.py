"""
The projection of float32 weights on CUDA, in five launches a step whatever the number of tensors (seven and an
all-gather, if they are sharded).

Each launch works on a table of addresses, one row per tensor, and on a list of blocks of rows, one per program. Nothing
is read by the host, so that a step can be captured in a CUDA graph. tensor.py says what `held` holds, and
equations.py has the equations.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftp_hf.projection.tensor import HELD_DTYPES, ProjectedTensor, blocks_of_rows

__all__ = ["distances", "project", "radius_gradients", "takes"]

_BLOCK_ELEMENTS = 2**15
_TILE = {"TILE_ROWS": 8, "TILE_COLUMNS": 512}
_FIELDS = tl.constexpr(13)
_FLOOR = tl.constexpr(1e-8)
_CAPTURED: list[tuple[Tensor, Tensor]] = []


def takes(tensor: ProjectedTensor) -> bool:
    """Whether these kernels serve a tensor: float32, with evenly spaced rows."""
    return tensor.weight.dtype == torch.float32 and tensor.held.dtype in HELD_DTYPES and tensor.layout is not None


def radius_gradients(batch: Sequence[ProjectedTensor]) -> Tensor:
    """`∇γ(t)` of every tensor, as in [`eager.radius_gradients`], in two launches."""
    table, blocks, starts = _plan(batch)
    partials = torch.empty(len(blocks), device=table.device)
    _launch(_radius_gradient_kernel, len(blocks), table, blocks, partials, **_TILE)
    gradients = torch.empty(len(batch), device=table.device)
    _launch(_sum_kernel, len(batch), starts, partials, gradients, BLOCK=128)
    return gradients


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """Learn the radii and project every tensor, as in [`eager.project`], in three launches."""
    table, blocks, starts = _plan(batch)
    if gradients is not None:
        group = batch[0].group
        beta1, beta2 = group["radius_betas"]
        sign = -1.0 if group.get("maximize", False) else 1.0
        options = _constants(table.device, group["radius_lr"], beta1, beta2, group["kappa"], sign)
        _launch(_learn_kernel, len(batch), table, gradients, options)
    found, projected = _norms(table, blocks, largest, project=True)
    known = found if largest is None else largest
    _launch(_settle_kernel, len(batch), table, starts, known, projected, IS_WHOLE=largest is not None, BLOCK=128)


def distances(batch: Sequence[ProjectedTensor]) -> Tensor:
    """The largest row norm of each displacement, as in [`eager.distances`], in two launches."""
    table, blocks, starts = _plan(batch)
    found, _ = _norms(table, blocks, None, project=False)
    largest = torch.empty(len(batch), device=table.device)
    _launch(_max_kernel, len(batch), starts, found, largest, BLOCK=128)
    return largest


def _norms(table: Tensor, blocks: Tensor, largest: Tensor | None, *, project: bool) -> tuple[Tensor, Tensor]:
    """Of each block, its largest row norm and how many of its rows lie outside the ball; and project them, if asked to."""
    found, projected = torch.empty(2, len(blocks), device=table.device)
    row_norms = found if largest is None else largest
    _launch(_project_kernel, len(blocks), table, blocks, row_norms, found, projected, PROJECT=project, **_TILE)
    return found, projected


def _launch(kernel: Any, programs: int, *arguments: Tensor, **constants: Any) -> None:
    if programs:
        kernel[(programs,)](*arguments, **constants)


def _plan(batch: Sequence[ProjectedTensor]) -> tuple[Tensor, Tensor, Tensor]:
    rows = tuple(_address(tensor) for tensor in batch)
    device = batch[0].weight.device
    return _on_device(device, rows), *_blocks(device, tuple(tensor.shape for tensor in batch))


def _address(tensor: ProjectedTensor) -> tuple[int, ...]:
    """Where a tensor is: `_FIELDS` numbers."""
    layout = tensor.layout
    if layout is None:
        raise ValueError(f"the rows of {tensor.name} are not evenly spaced in memory")
    gradient = 0 if tensor.grad is None else tensor.grad.data_ptr()
    return (
        *(tensor.weight.data_ptr(), tensor.held.data_ptr(), gradient, tensor.radius_row.data_ptr()),
        *(HELD_DTYPES.index(tensor.held.dtype), tensor.shape[1]),
        *(*layout.weight, *layout.held, *layout.gradient),
        int(tensor.is_fragment),
    )


@functools.lru_cache(maxsize=32)
def _on_device(device: torch.device, rows: tuple[tuple[int, ...], ...]) -> Tensor:
    """A table for the kernels. It is sent again only if an address in it changed."""
    table = torch.tensor(rows)
    if device.type != "cuda":
        return table
    host = table.pin_memory()
    table = host.to(device, non_blocking=True)
    if torch.cuda.is_current_stream_capturing():
        # Each replay of the graph copies again, from the same memory.
        _CAPTURED.append((host, table))
    return table


@functools.lru_cache(maxsize=32)
def _constants(device: torch.device, *values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)


@functools.lru_cache(maxsize=32)
def _blocks(device: torch.device, shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """The blocks of rows, and for each tensor the number of its first block."""
    blocks = blocks_of_rows(shapes, _BLOCK_ELEMENTS)
    counts = Counter(number for number, _, _ in blocks)
    starts = itertools.accumulate((counts[number] for number in range(len(shapes))), initial=0)
    return torch.tensor(blocks, device=device).reshape(-1, 3), torch.tensor([*starts], device=device)


@triton.jit
def _load_held(address, held_type, offsets, mask):
    values = tl.zeros(offsets.shape, tl.float32)
    if held_type == 0:
        values = tl.load(address.to(tl.pointer_type(tl.float32)) + offsets, mask, other=0.0)
    elif held_type == 1:
        values = tl.load(address.to(tl.pointer_type(tl.bfloat16)) + offsets, mask, other=0.0).to(tl.float32)
    else:
        values = tl.load(address.to(tl.pointer_type(tl.float16)) + offsets, mask, other=0.0).to(tl.float32)
    return values


@triton.jit
def _store_held(address, held_type, offsets, values, mask):
    if held_type == 0:
        tl.store(address.to(tl.pointer_type(tl.float32)) + offsets, values, mask)
    elif held_type == 1:
        tl.store(address.to(tl.pointer_type(tl.bfloat16)) + offsets, values.to(tl.bfloat16), mask)
    else:
        tl.store(address.to(tl.pointer_type(tl.float16)) + offsets, values.to(tl.float16), mask)


@triton.jit
def _strides(tensor, field):
    return tl.load(tensor + field), tl.load(tensor + field + 1)


@triton.jit
def _radius_row(table):
    """The state of the radius of this program's tensor."""
    return tl.load(table + tl.program_id(0) * _FIELDS + 3).to(tl.pointer_type(tl.float32))


@triton.jit
def _sum(starts, values, BLOCK: tl.constexpr):
    """The sum of the values of the blocks of this program's tensor."""
    end = tl.load(starts + tl.program_id(0) + 1)
    sums = tl.zeros((BLOCK,), tl.float64)
    for first in range(tl.load(starts + tl.program_id(0)), end, BLOCK):
        index = first + tl.arange(0, BLOCK)
        sums += tl.load(values + index, index < end, other=0.0)
    return tl.sum(sums)


@triton.jit
def _max(starts, values, BLOCK: tl.constexpr):
    """The largest of the values of the blocks of this program's tensor, which are not negative."""
    end = tl.load(starts + tl.program_id(0) + 1)
    maxima = tl.zeros((BLOCK,), tl.float32)
    for first in range(tl.load(starts + tl.program_id(0)), end, BLOCK):
        index = first + tl.arange(0, BLOCK)
        maxima = tl.maximum(maxima, tl.load(values + index, index < end, other=0.0))
    return tl.max(maxima)


@triton.jit
def _sum_kernel(starts, values, sums, BLOCK: tl.constexpr):
    tl.store(sums + tl.program_id(0), _sum(starts, values, BLOCK))


@triton.jit
def _max_kernel(starts, values, maxima, BLOCK: tl.constexpr):
    tl.store(maxima + tl.program_id(0), _max(starts, values, BLOCK))


@triton.jit
def _radius_gradient_kernel(table, blocks, partials, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr):
    block = tl.program_id(0)
    tensor = table + tl.load(blocks + 3 * block) * _FIELDS
    first_row = tl.load(blocks + 3 * block + 1)
    end_row = tl.load(blocks + 3 * block + 2)
    weight = tl.load(tensor).to(tl.pointer_type(tl.float32))
    held = tl.load(tensor + 1)
    gradient = tl.load(tensor + 2).to(tl.pointer_type(tl.float32))
    radius_row = tl.load(tensor + 3).to(tl.pointer_type(tl.float32))
    held_type = tl.load(tensor + 4)
    columns = tl.load(tensor + 5)
    weight_row, weight_column = _strides(tensor, 6)
    held_row, held_column = _strides(tensor, 8)
    gradient_row, gradient_column = _strides(tensor, 10)
    is_fragment = tl.load(tensor + 12) > 0
    radius = tl.load(radius_row)
    at_floor = tl.load(radius_row + 4) > 0

    total = tl.zeros((TILE_ROWS,), tl.float32)
    for start_row in range(first_row, end_row, TILE_ROWS):
        row = (start_row + tl.arange(0, TILE_ROWS))[:, None]
        product = tl.zeros((TILE_ROWS,), tl.float32)
        norm = tl.zeros((TILE_ROWS,), tl.float32)
        for start_column in range(0, columns, TILE_COLUMNS):
            column = (start_column + tl.arange(0, TILE_COLUMNS))[None, :]
            mask = (row < end_row) & (column < columns)
            held_offsets = row * held_row + column * held_column
            w = tl.load(weight + row * weight_row + column * weight_column, mask, other=0.0)
            h = _load_held(held, held_type, held_offsets, mask)
            g = tl.load(gradient + row * gradient_row + column * gradient_column, mask, other=0.0)
            displacement = tl.where(at_floor, h, w - h)
            product += tl.sum(g * displacement, axis=1)
            norm += tl.sum(tl.abs(displacement), axis=1)
            if at_floor:
                _store_held(held, held_type, held_offsets, w, mask)
        # The projection leaves a single row at a norm of γ, whatever its parts are. At the floor the buffer held
        # directions, whose rows have norm 1.
        norm = tl.where(is_fragment, radius, tl.minimum(norm + _FLOOR, radius))
        total += product / tl.where(at_floor, 1.0, norm)
    tl.store(partials + block, tl.sum(total))


@triton.jit
def _learn_kernel(table, gradients, options):
    radius_row = _radius_row(table)
    lr = tl.load(options)
    beta1 = tl.load(options + 1)
    beta2 = tl.load(options + 2)
    kappa = tl.load(options + 3)
    gradient = tl.load(gradients + tl.program_id(0)).to(tl.float64) * tl.load(options + 4)
    gradient = tl.where(gradient > 0, kappa * gradient, gradient)

    radius = tl.load(radius_row)
    exp_avg = tl.load(radius_row + 1)
    exp_avg_sq = tl.load(radius_row + 2)
    step = tl.load(radius_row + 3) + 1
    new_exp_avg = beta1 * exp_avg + (1 - beta1) * gradient
    new_exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * gradient * gradient
    # In float64, so that 1 − βᵗ keeps its digits. β = 0 has no logarithm, and 1 for its correction.
    correction1 = 1 - tl.where(beta1 > 0, tl.exp(step * tl.log(tl.maximum(beta1, 1e-300))), 0.0)
    correction2 = 1 - tl.where(beta2 > 0, tl.exp(step * tl.log(tl.maximum(beta2, 1e-300))), 0.0)
    new_radius = radius - lr * (new_exp_avg / correction1) / (tl.sqrt(new_exp_avg_sq / correction2) + 1e-8)

    # A gradient that overflows changes nothing but the count.
    finite = new_exp_avg_sq.to(tl.float32) < float("inf")
    tl.store(radius_row, tl.where(finite, tl.maximum(new_radius.to(tl.float32), _FLOOR), radius))
    tl.store(radius_row + 1, tl.where(finite, new_exp_avg.to(tl.float32), exp_avg))
    tl.store(radius_row + 2, tl.where(finite, new_exp_avg_sq.to(tl.float32), exp_avg_sq))
    tl.store(radius_row + 3, step)


@triton.jit
def _project_kernel(
    table,
    blocks,
    row_norms,
    largest,
    projected,
    PROJECT: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    block = tl.program_id(0)
    number = tl.load(blocks + 3 * block)
    tensor = table + number * _FIELDS
    first_row = tl.load(blocks + 3 * block + 1)
    end_row = tl.load(blocks + 3 * block + 2)
    weight = tl.load(tensor).to(tl.pointer_type(tl.float32))
    held = tl.load(tensor + 1)
    held_type = tl.load(tensor + 4)
    columns = tl.load(tensor + 5)
    weight_row, weight_column = _strides(tensor, 6)
    held_row, held_column = _strides(tensor, 8)
    radius = tl.load(tl.load(tensor + 3).to(tl.pointer_type(tl.float32)))
    at_floor = radius <= _FLOOR
    is_fragment = PROJECT and tl.load(tensor + 12) > 0
    row_norm = tl.load(row_norms + number, is_fragment, other=0.0)

    block_largest = tl.zeros((TILE_ROWS,), tl.float32)
    block_projected = tl.zeros((TILE_ROWS,), tl.float32)
    for start_row in range(first_row, end_row, TILE_ROWS):
        row = (start_row + tl.arange(0, TILE_ROWS))[:, None]
        norm = tl.zeros((TILE_ROWS,), tl.float32)
        for start_column in range(0, columns, TILE_COLUMNS):
            column = (start_column + tl.arange(0, TILE_COLUMNS))[None, :]
            mask = (row < end_row) & (column < columns)
            w = tl.load(weight + row * weight_row + column * weight_column, mask, other=0.0)
            h = _load_held(held, held_type, row * held_row + column * held_column, mask)
            norm += tl.sum(tl.abs(w - h), axis=1)
        norm = tl.where(is_fragment, row_norm, norm + _FLOOR)
        finite = norm < float("inf")
        outside = finite & (norm > radius) & (start_row + tl.arange(0, TILE_ROWS) < end_row)
        moves = tl.where(at_floor, finite, outside)
        scale = tl.where(at_floor, 0.0, radius / norm)
        for start_column in range(0, columns if PROJECT else 0, TILE_COLUMNS):
            column = (start_column + tl.arange(0, TILE_COLUMNS))[None, :]
            mask = (row < end_row) & (column < columns) & moves[:, None]
            weight_offsets = row * weight_row + column * weight_column
            held_offsets = row * held_row + column * held_column
            w = tl.load(weight + weight_offsets, mask, other=0.0)
            h = _load_held(held, held_type, held_offsets, mask)
            displacement = w - h
            tl.store(weight + weight_offsets, h + displacement * scale[:, None], mask)
            if at_floor:
                _store_held(held, held_type, held_offsets, displacement / norm[:, None], mask)
        block_largest = tl.maximum(block_largest, tl.where(finite, norm, float("inf")))
        block_projected += outside.to(tl.float32)
    tl.store(largest + block, tl.max(block_largest))
    tl.store(projected + block, tl.sum(block_projected))


@triton.jit
def _settle_kernel(table, starts, largest, projected, IS_WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    radius_row = _radius_row(table)
    bound = tl.load(largest + tl.program_id(0)) if IS_WHOLE else _max(starts, largest, BLOCK)
    radius = tl.load(radius_row)
    clipped = tl.where(bound < float("inf"), tl.minimum(radius, bound), radius)
    tl.store(radius_row, tl.maximum(clipped, _FLOOR))
    tl.store(radius_row + 4, (radius <= _FLOOR).to(tl.float32))
    tl.store(radius_row + 5, _sum(starts, projected, BLOCK))
