"""
The projection of float32 weights on CUDA, in five launches a step whatever the number of tensors (seven and an
all-gather, if they are sharded). The first of them may take AdamW's step on its way.

Each launch works on a table of addresses, one row per tensor, and on a list of blocks of rows, one per program (table.py).
Nothing is read by the host, so that a step can be captured in a CUDA graph. tensor.py says what `held` holds, and
equations.py has the equations.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftp_hf.projection.adamw_step import AdamWStep
from ftp_hf.projection.equations import ADAM_EPS, RADIUS_FLOOR
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.rates import fan_ins, radius_rates
from ftp_hf.projection.tensor import GRADIENT_DTYPES, HELD_DTYPES, Block, ProjectedTensor

from .table import SHORT_ROW, AdamWOptions, RadiusOptions, Reading, Row, gradients_of, on_device, plan

__all__ = ["TAKES_ADAMW_STEPS", "distances", "project", "radius_gradients", "takes"]

TAKES_ADAMW_STEPS = True

_BLOCK_ELEMENTS = 2**15
_TILES = {"TILE": 2048, "SPREAD_TILE": 512, "num_warps": 4}
"""Elements of a tile; where each of them has an address of its own `SPREAD_TILE`, or of rows side by side twice that."""
_REDUCTION = {"BLOCK": 128}


def _places(fields: tuple[str, ...], *names: str) -> list[tl.constexpr]:
    return [tl.constexpr(fields.index(name)) for name in names]


# What the kernels see: the places of the fields, and the constants of the method.
_FIELDS = tl.constexpr(len(Row._fields))
_BLOCK_FIELDS = tl.constexpr(len(Block._fields))
_WEIGHT, _HELD, _RADIUS = _places(Row._fields, "weight", "held", "radius")
_EXP_AVG_OF_WEIGHT, _EXP_AVG_SQ_OF_WEIGHT, _TAKEN = _places(Row._fields, "exp_avg", "exp_avg_sq", "taken")
_HELD_TYPE, _GRADIENT_TYPE = _places(Row._fields, "held_type", "gradient_type")
_COLUMNS, _IS_FRAGMENT, _READING = _places(Row._fields, "columns", "is_fragment", "reading")
_ROWS_TOGETHER, _COLUMNS_TOGETHER = _places(Row._fields, "rows_together", "columns_together")
_WEIGHT_STRIDES, _HELD_STRIDES, _GRADIENT_STRIDES = _places(Row._fields, "weight_rows", "held_rows", "gradient_rows")
_EXP_AVG, _EXP_AVG_SQ, _STEP, _AT_FLOOR, _ROWS_PROJECTED = _places(
    RadiusState._fields, "exp_avg", "exp_avg_sq", "step", "at_floor", "rows_projected"
)
_LR, _BETA1, _BETA2, _KAPPA, _SIGN = _places(RadiusOptions._fields, *RadiusOptions._fields)
_ADAMW = _places(AdamWOptions._fields, *AdamWOptions._fields)
_ADAMW_LR, _ADAMW_BETA1, _ADAMW_BETA2, _ADAMW_EPS, _ADAMW_DECAY, _ADAMW_SIGN = _ADAMW
_ANY, _UPRIGHT, _SHORT, _LONG = (tl.constexpr(int(reading)) for reading in Reading)
_SHORT_ROW = tl.constexpr(SHORT_ROW)
# Of GRADIENT_DTYPES, which HELD_DTYPES begin with.
_FLOAT32, _BFLOAT16, _ = map(tl.constexpr, range(len(HELD_DTYPES)))
_FLOOR = tl.constexpr(RADIUS_FLOOR)
_ADAM_EPS = tl.constexpr(ADAM_EPS)


def takes(tensor: ProjectedTensor) -> bool:
    """Whether these kernels serve a tensor: float32, with rows that [`Layout`] can tell of."""
    return (
        tensor.weight.dtype == torch.float32
        and tensor.held.dtype in HELD_DTYPES
        and (tensor.grad is None or tensor.grad.dtype in GRADIENT_DTYPES)
        and tensor.layout is not None
    )


def radius_gradients(batch: Sequence[ProjectedTensor], steps: Sequence[AdamWStep | None] = ()) -> Tensor:
    """
    `∇γ(t)` of every tensor, as in [`eager.radius_gradients`]; and AdamW's steps, which then do not read weights and gradients
    once more. In two launches.
    """
    moves = any(step is not None for step in steps)
    table, blocks, starts = plan(batch, _BLOCK_ELEMENTS, steps if moves else ())
    partials = torch.empty(len(blocks), device=table.device)
    # Without a step nothing is read of the options.
    options = on_device(table.device, AdamWOptions.of(batch[0].group)) if moves else partials
    inputs = (table, blocks, gradients_of(batch), options)
    _launch(_radius_gradient_kernel, len(blocks), *inputs, partials, MOVES=moves, **_TILES)
    gradients = torch.empty(len(batch), device=table.device)
    _launch(_sum_kernel, len(batch), starts, partials, gradients, **_REDUCTION)
    return gradients


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """Learn the radii and project every tensor, as in [`eager.project`], in three launches."""
    table, blocks, starts = plan(batch, _BLOCK_ELEMENTS)
    if gradients is not None:
        group = batch[0].group
        shared = on_device(table.device, RadiusOptions.of(group))
        rates = radius_rates(group, functools.partial(fan_ins, batch, shared.dtype))
        own = rates if isinstance(rates, Tensor) else None
        _launch(
            _learn_kernel, len(batch), table, gradients, shared, shared if own is None else own, OWN=own is not None
        )
    found, projected = _norms(table, blocks, largest, project=True)
    bounds = found if largest is None else largest
    _launch(_settle_kernel, len(batch), table, starts, bounds, projected, IS_WHOLE=largest is not None, **_REDUCTION)


def distances(batch: Sequence[ProjectedTensor]) -> Tensor:
    """The largest row norm of each displacement, as in [`eager.distances`], in two launches."""
    table, blocks, starts = plan(batch, _BLOCK_ELEMENTS)
    found, _ = _norms(table, blocks, None, project=False)
    largest = torch.empty(len(batch), device=table.device)
    _launch(_max_kernel, len(batch), starts, found, largest, **_REDUCTION)
    return largest


def _norms(table: Tensor, blocks: Tensor, largest: Tensor | None, *, project: bool) -> tuple[Tensor, Tensor]:
    """Of each block, its largest row norm and how many of its rows lie outside the ball; and project them, if asked to."""
    found, projected = torch.empty(2, len(blocks), device=table.device)
    row_norms = found if largest is None else largest
    _launch(_project_kernel, len(blocks), table, blocks, row_norms, found, projected, PROJECT=project, **_TILES)
    return found, projected


def _launch(kernel: Any, programs: int, *arguments: Tensor, **constants: Any) -> None:
    if programs:
        kernel[(programs,)](*arguments, **constants)


@triton.jit
def _pointer(address, dtype: tl.constexpr, READING: tl.constexpr):
    """To the first element of a tensor."""
    pointer = address.to(tl.pointer_type(dtype))
    if READING >= _SHORT:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _load(address, dtype, offsets, mask, READING: tl.constexpr):
    values = tl.zeros(offsets.shape, tl.float32)
    if dtype == _FLOAT32:
        values = tl.load(_pointer(address, tl.float32, READING) + offsets, mask, other=0.0)
    elif dtype == _BFLOAT16:
        values = tl.load(_pointer(address, tl.bfloat16, READING) + offsets, mask, other=0.0).to(tl.float32)
    else:
        values = tl.load(_pointer(address, tl.float16, READING) + offsets, mask, other=0.0).to(tl.float32)
    return values


@triton.jit
def _store_held(address, held_type, offsets, values, mask, READING: tl.constexpr):
    if held_type == _FLOAT32:
        tl.store(_pointer(address, tl.float32, READING) + offsets, values, mask)
    elif held_type == _BFLOAT16:
        tl.store(_pointer(address, tl.bfloat16, READING) + offsets, values.to(tl.bfloat16), mask)
    else:
        tl.store(_pointer(address, tl.float16, READING) + offsets, values.to(tl.float16), mask)


@triton.jit
def _offsets_of(tensor, field, size, index):
    """Where rows, or the elements of a row, begin: those together, and how far apart groups of them and they are."""
    together = tl.load(tensor + size)
    return (index // together) * tl.load(tensor + field) + (index % together) * tl.load(tensor + field + 1)


@triton.jit
def _offsets(tensor, field, row, column, READING: tl.constexpr):
    """Where the elements of a tile are; the strides are four fields, one after the other."""
    if READING == _ANY:
        rows = _offsets_of(tensor, field, _ROWS_TOGETHER, row)
        offsets = rows + _offsets_of(tensor, field + 2, _COLUMNS_TOGETHER, column)
    elif READING == _UPRIGHT:
        offsets = row + column * tl.load(tensor + field + 3)
    else:
        offsets = row * tl.multiple_of(tl.load(tensor + field + 1), 8) + column
    return offsets


@triton.jit
def _columns(tensor, READING: tl.constexpr):
    """The number of elements in a row."""
    columns = tl.load(tensor + _COLUMNS)
    if READING >= _SHORT:
        columns = tl.multiple_of(columns, 8)
    return columns


@triton.jit
def _block(blocks):
    """The tensor of this program's block, its first row and the row after its last one."""
    block = blocks + _BLOCK_FIELDS * tl.program_id(0)
    return tl.load(block), tl.load(block + 1), tl.load(block + 2)


@triton.jit
def _radius_row(table):
    """The state of the radius of this program's tensor."""
    return tl.load(table + tl.program_id(0) * _FIELDS + _RADIUS).to(tl.pointer_type(tl.float32))


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
def _radius_gradient_kernel(
    table, blocks, gradients, adamw, partials, MOVES: tl.constexpr, TILE: tl.constexpr, SPREAD_TILE: tl.constexpr
):
    number, first, end = _block(blocks)
    tensor = table + number * _FIELDS
    reading = tl.load(tensor + _READING)
    address = tl.load(gradients + number)
    gradient = 0.0
    if reading == _LONG:
        gradient = _radius_gradient(tensor, address, adamw, first, end, MOVES, _LONG, 1, TILE)
    elif reading == _SHORT:
        gradient = _radius_gradient(tensor, address, adamw, first, end, MOVES, _SHORT, TILE // _SHORT_ROW, _SHORT_ROW)
    elif reading == _UPRIGHT:
        gradient = _radius_gradient(tensor, address, adamw, first, end, MOVES, _UPRIGHT, 32, SPREAD_TILE // 16)
    else:
        gradient = _radius_gradient(tensor, address, adamw, first, end, MOVES, _ANY, 16, SPREAD_TILE // 16)
    tl.store(partials + tl.program_id(0), gradient)


@triton.jit
def _radius_gradient(
    tensor,
    gradient,
    adamw,
    first_row,
    end_row,
    MOVES: tl.constexpr,
    READING: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    """`∇γ(t)` of a block of rows, which take AdamW's step, if they are to."""
    weight = _pointer(tl.load(tensor + _WEIGHT), tl.float32, READING)
    held = tl.load(tensor + _HELD)
    radius_row = tl.load(tensor + _RADIUS).to(tl.pointer_type(tl.float32))
    held_type = tl.load(tensor + _HELD_TYPE)
    gradient_type = tl.load(tensor + _GRADIENT_TYPE)
    columns = _columns(tensor, READING)
    is_fragment = tl.load(tensor + _IS_FRAGMENT) > 0
    radius = tl.load(radius_row)
    at_floor = tl.load(radius_row + _AT_FLOOR) > 0
    if MOVES:
        exp_avg = _pointer(tl.load(tensor + _EXP_AVG_OF_WEIGHT), tl.float32, READING)
        exp_avg_sq = _pointer(tl.load(tensor + _EXP_AVG_SQ_OF_WEIGHT), tl.float32, READING)
        end_moving = tl.where(tl.load(tensor + _EXP_AVG_OF_WEIGHT) > 0, end_row, first_row)
        taken = tl.load(tl.load(tensor + _TAKEN).to(tl.pointer_type(tl.float32)))
        correction1 = _bias_correction(tl.load(adamw + _ADAMW_BETA1), taken)
        correction2 = _bias_correction(tl.load(adamw + _ADAMW_BETA2), taken)
        step_size = (tl.load(adamw + _ADAMW_LR) / correction1).to(tl.float32)
        root_of_correction = tl.sqrt(correction2).to(tl.float32)

    total = tl.zeros((TILE_ROWS,), tl.float32)
    for start_row in range(first_row, end_row, TILE_ROWS):
        row = (start_row + tl.arange(0, TILE_ROWS))[:, None]
        product = tl.zeros((TILE_ROWS,), tl.float32)
        norm = tl.zeros((TILE_ROWS,), tl.float32)
        for start_column in range(0, columns, TILE_COLUMNS):
            column = (start_column + tl.arange(0, TILE_COLUMNS))[None, :]
            mask = (row < end_row) & (column < columns)
            weight_offsets = _offsets(tensor, _WEIGHT_STRIDES, row, column, READING)
            held_offsets = _offsets(tensor, _HELD_STRIDES, row, column, READING)
            gradient_offsets = _offsets(tensor, _GRADIENT_STRIDES, row, column, READING)
            w = tl.load(weight + weight_offsets, mask, other=0.0)
            h = _load(held, held_type, held_offsets, mask, READING)
            g = _load(gradient, gradient_type, gradient_offsets, mask, READING)
            displacement = tl.where(at_floor, h, w - h)
            product += tl.sum(g * displacement, axis=1)
            norm += tl.sum(tl.abs(displacement), axis=1)
            if at_floor:
                _store_held(held, held_type, held_offsets, w, mask, READING)
            if MOVES:
                moves = (row < end_moving) & (column < columns)
                m = tl.load(exp_avg + weight_offsets, moves, other=0.0)
                v = tl.load(exp_avg_sq + weight_offsets, moves, other=0.0)
                w, m, v = _adamw(w, g, m, v, adamw, step_size, root_of_correction)
                tl.store(weight + weight_offsets, w, moves)
                tl.store(exp_avg + weight_offsets, m, moves)
                tl.store(exp_avg_sq + weight_offsets, v, moves)
        # The projection leaves a single row at a norm of γ, whatever its parts are. At the floor the buffer held
        # directions, whose rows have norm 1.
        norm = tl.where(is_fragment, radius, tl.minimum(norm + _FLOOR, radius))
        total += product / tl.where(at_floor, 1.0, norm)
    return tl.sum(total)


@triton.jit
def _adamw(weight, gradient, exp_avg, exp_avg_sq, adamw, step_size, root_of_correction):
    """An element of torch's fused AdamW, in its order of operations (fused_adam_utils.cuh of torch 2.13)."""
    beta1 = tl.load(adamw + _ADAMW_BETA1).to(tl.float32)
    beta2 = tl.load(adamw + _ADAMW_BETA2).to(tl.float32)
    decay = tl.load(adamw + _ADAMW_DECAY).to(tl.float32)
    along = gradient * tl.load(adamw + _ADAMW_SIGN).to(tl.float32)
    decayed = weight - tl.load(adamw + _ADAMW_LR).to(tl.float32) * decay * weight
    weight = tl.where(decay == 0, weight, decayed)
    exp_avg = tl.fma(beta1, exp_avg, tl.fma(-beta1, along, along))
    square = along * along
    exp_avg_sq = tl.fma(beta2, exp_avg_sq, tl.fma(-beta2, square, square))
    scale = tl.div_rn(tl.sqrt_rn(exp_avg_sq), root_of_correction) + tl.load(adamw + _ADAMW_EPS).to(tl.float32)
    return weight - tl.div_rn(step_size * exp_avg, scale), exp_avg, exp_avg_sq


@triton.jit
def _bias_correction(beta, steps):
    """`1 − βᵗ` in float64, so that it keeps its digits. β = 0 has no logarithm, and 1 for its correction."""
    return 1 - tl.where(beta > 0, tl.exp(steps.to(tl.float64) * tl.log(tl.maximum(beta, 1e-300))), 0.0)


@triton.jit
def _learn_kernel(table, gradients, shared, rates, OWN: tl.constexpr):
    radius_row = _radius_row(table)
    lr = tl.load(rates + tl.program_id(0)) if OWN else tl.load(shared + _LR)
    beta1 = tl.load(shared + _BETA1)
    beta2 = tl.load(shared + _BETA2)
    kappa = tl.load(shared + _KAPPA)
    gradient = tl.load(gradients + tl.program_id(0)).to(tl.float64) * tl.load(shared + _SIGN)
    gradient = tl.where(gradient > 0, kappa * gradient, gradient)

    radius = tl.load(radius_row)
    exp_avg = tl.load(radius_row + _EXP_AVG)
    exp_avg_sq = tl.load(radius_row + _EXP_AVG_SQ)
    step = tl.load(radius_row + _STEP) + 1
    new_exp_avg = beta1 * exp_avg + (1 - beta1) * gradient
    new_exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * gradient * gradient
    scale = tl.sqrt(new_exp_avg_sq / _bias_correction(beta2, step)) + _ADAM_EPS
    new_radius = radius - lr * (new_exp_avg / _bias_correction(beta1, step)) / scale

    # A gradient that overflows changes nothing but the count.
    finite = new_exp_avg_sq.to(tl.float32) < float("inf")
    tl.store(radius_row, tl.where(finite, tl.maximum(new_radius.to(tl.float32), _FLOOR), radius))
    tl.store(radius_row + _EXP_AVG, tl.where(finite, new_exp_avg.to(tl.float32), exp_avg))
    tl.store(radius_row + _EXP_AVG_SQ, tl.where(finite, new_exp_avg_sq.to(tl.float32), exp_avg_sq))
    tl.store(radius_row + _STEP, step)


@triton.jit
def _project_kernel(
    table,
    blocks,
    row_norms,
    largest,
    projected,
    PROJECT: tl.constexpr,
    TILE: tl.constexpr,
    SPREAD_TILE: tl.constexpr,
):
    number, first, end = _block(blocks)
    tensor = table + number * _FIELDS
    row_norm = row_norms + number
    reading = tl.load(tensor + _READING)
    norm, count = 0.0, 0.0
    if reading == _LONG:
        norm, count = _project(tensor, row_norm, first, end, PROJECT, _LONG, 1, TILE)
    elif reading == _SHORT:
        norm, count = _project(tensor, row_norm, first, end, PROJECT, _SHORT, TILE // _SHORT_ROW, _SHORT_ROW)
    elif reading == _UPRIGHT:
        norm, count = _project(tensor, row_norm, first, end, PROJECT, _UPRIGHT, 32, SPREAD_TILE // 16)
    else:
        norm, count = _project(tensor, row_norm, first, end, PROJECT, _ANY, 16, SPREAD_TILE // 16)
    tl.store(largest + tl.program_id(0), norm)
    tl.store(projected + tl.program_id(0), count)


@triton.jit
def _project(
    tensor,
    row_norm,
    first_row,
    end_row,
    PROJECT: tl.constexpr,
    READING: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
):
    """
    Of a block of rows, the largest norm and how many of them lie outside the ball, before they are projected, if they are to be.
    `row_norm` is where that of a whole row is of which here is a part.
    """
    weight = _pointer(tl.load(tensor + _WEIGHT), tl.float32, READING)
    held = tl.load(tensor + _HELD)
    held_type = tl.load(tensor + _HELD_TYPE)
    columns = _columns(tensor, READING)
    radius = tl.load(tl.load(tensor + _RADIUS).to(tl.pointer_type(tl.float32)))
    at_floor = radius <= _FLOOR
    is_fragment = PROJECT and tl.load(tensor + _IS_FRAGMENT) > 0
    row_norm = tl.load(row_norm, is_fragment, other=0.0)

    block_largest = tl.zeros((TILE_ROWS,), tl.float32)
    block_projected = tl.zeros((TILE_ROWS,), tl.float32)
    for start_row in range(first_row, end_row, TILE_ROWS):
        row = (start_row + tl.arange(0, TILE_ROWS))[:, None]
        norm = tl.zeros((TILE_ROWS,), tl.float32)
        for start_column in range(0, columns, TILE_COLUMNS):
            column = (start_column + tl.arange(0, TILE_COLUMNS))[None, :]
            mask = (row < end_row) & (column < columns)
            w = tl.load(weight + _offsets(tensor, _WEIGHT_STRIDES, row, column, READING), mask, other=0.0)
            h = _load(held, held_type, _offsets(tensor, _HELD_STRIDES, row, column, READING), mask, READING)
            norm += tl.sum(tl.abs(w - h), axis=1)
        norm = tl.where(is_fragment, row_norm, norm + _FLOOR)
        finite = norm < float("inf")
        outside = finite & (norm > radius) & (start_row + tl.arange(0, TILE_ROWS) < end_row)
        moves = tl.where(at_floor, finite, outside)
        scale = tl.where(at_floor, 0.0, radius / norm)
        for start_column in range(0, columns if PROJECT else 0, TILE_COLUMNS):
            column = (start_column + tl.arange(0, TILE_COLUMNS))[None, :]
            mask = (row < end_row) & (column < columns) & moves[:, None]
            weight_offsets = _offsets(tensor, _WEIGHT_STRIDES, row, column, READING)
            held_offsets = _offsets(tensor, _HELD_STRIDES, row, column, READING)
            w = tl.load(weight + weight_offsets, mask, other=0.0)
            h = _load(held, held_type, held_offsets, mask, READING)
            displacement = w - h
            tl.store(weight + weight_offsets, h + displacement * scale[:, None], mask)
            if at_floor:
                _store_held(held, held_type, held_offsets, displacement / norm[:, None], mask, READING)
        block_largest = tl.maximum(block_largest, tl.where(finite, norm, float("inf")))
        block_projected += outside.to(tl.float32)
    return tl.max(block_largest), tl.sum(block_projected)


@triton.jit
def _settle_kernel(table, starts, largest, projected, IS_WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    radius_row = _radius_row(table)
    bound = tl.load(largest + tl.program_id(0)) if IS_WHOLE else _max(starts, largest, BLOCK)
    radius = tl.load(radius_row)
    clipped = tl.where(bound < float("inf"), tl.minimum(radius, bound), radius)
    tl.store(radius_row, tl.maximum(clipped, _FLOOR))
    tl.store(radius_row + _AT_FLOOR, (radius <= _FLOOR).to(tl.float32))
    tl.store(radius_row + _ROWS_PROJECTED, _sum(starts, projected, BLOCK))
