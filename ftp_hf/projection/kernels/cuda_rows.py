"""
What a program of the CUDA kernels does to a block of rows: their part of the radius gradient with AdamW's step on the way, and
their projection.

A program reads its rows in tiles, in one of four ways ([`Reading`]). tensor.py says what `held` holds, and equations.py has the
equations.
"""

import triton
import triton.language as tl

from ftp_hf.projection.equations import RADIUS_FLOOR
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.tensor import HELD_DTYPES

from .cuda_table import AdamWOptions, Reading, Row

__all__ = [
    "ANY",
    "AT_FLOOR",
    "FLOOR",
    "LONG",
    "RADIUS",
    "SHORT",
    "UPRIGHT",
    "bias_correction",
    "places",
    "project_rows",
    "radius_gradient_of_rows",
]


def places(fields: tuple[str, ...], *names: str) -> list[tl.constexpr]:
    """Where fields are among the others, as kernels see it."""
    return [tl.constexpr(fields.index(name)) for name in names]


_WEIGHT, _HELD, RADIUS = places(Row._fields, "weight", "held", "radius")
_EXP_AVG, _EXP_AVG_SQ, _TAKEN = places(Row._fields, "exp_avg", "exp_avg_sq", "taken")
_HELD_TYPE, _GRADIENT_TYPE = places(Row._fields, "held_type", "gradient_type")
_COLUMNS, _IS_FRAGMENT = places(Row._fields, "columns", "is_fragment")
_ROWS_TOGETHER, _COLUMNS_TOGETHER = places(Row._fields, "rows_together", "columns_together")
_WEIGHT_STRIDES, _HELD_STRIDES, _GRADIENT_STRIDES = places(Row._fields, "weight_rows", "held_rows", "gradient_rows")
(AT_FLOOR,) = places(RadiusState._fields, "at_floor")
_LR, _BETA1, _BETA2, _EPS, _DECAY, _SIGN = places(AdamWOptions._fields, *AdamWOptions._fields)
ANY, UPRIGHT, SHORT, LONG = (tl.constexpr(int(reading)) for reading in Reading)
# Of GRADIENT_DTYPES, which HELD_DTYPES begin with.
_FLOAT32, _BFLOAT16, _ = map(tl.constexpr, range(len(HELD_DTYPES)))
FLOOR = tl.constexpr(RADIUS_FLOOR)


@triton.jit
def _pointer(address, dtype: tl.constexpr, READING: tl.constexpr):
    """To the first element of a tensor."""
    pointer = address.to(tl.pointer_type(dtype))
    if READING >= SHORT:
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
    if READING == ANY:
        rows = _offsets_of(tensor, field, _ROWS_TOGETHER, row)
        offsets = rows + _offsets_of(tensor, field + 2, _COLUMNS_TOGETHER, column)
    elif READING == UPRIGHT:
        offsets = row + column * tl.load(tensor + field + 3)
    else:
        offsets = row * tl.multiple_of(tl.load(tensor + field + 1), 8) + column
    return offsets


@triton.jit
def _columns(tensor, READING: tl.constexpr):
    """The number of elements in a row."""
    columns = tl.load(tensor + _COLUMNS)
    if READING >= SHORT:
        columns = tl.multiple_of(columns, 8)
    return columns


@triton.jit
def radius_gradient_of_rows(
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
    radius_row = tl.load(tensor + RADIUS).to(tl.pointer_type(tl.float32))
    held_type = tl.load(tensor + _HELD_TYPE)
    gradient_type = tl.load(tensor + _GRADIENT_TYPE)
    columns = _columns(tensor, READING)
    is_fragment = tl.load(tensor + _IS_FRAGMENT) > 0
    radius = tl.load(radius_row)
    at_floor = tl.load(radius_row + AT_FLOOR) > 0
    if MOVES:
        exp_avg = _pointer(tl.load(tensor + _EXP_AVG), tl.float32, READING)
        exp_avg_sq = _pointer(tl.load(tensor + _EXP_AVG_SQ), tl.float32, READING)
        end_moving = tl.where(tl.load(tensor + _EXP_AVG) > 0, end_row, first_row)
        taken = tl.load(tl.load(tensor + _TAKEN).to(tl.pointer_type(tl.float32)))
        correction1 = bias_correction(tl.load(adamw + _BETA1), taken)
        correction2 = bias_correction(tl.load(adamw + _BETA2), taken)
        step_size = (tl.load(adamw + _LR) / correction1).to(tl.float32)
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
                # Of a row that was not finite, the buffer holds the anchor already.
                _store_held(held, held_type, held_offsets, w, mask & (tl.abs(w) >= 0), READING)
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
        norm = tl.where(is_fragment, radius, tl.minimum(norm + FLOOR, radius))
        total += product / tl.where(at_floor, 1.0, norm)
    return tl.sum(total)


@triton.jit
def _adamw(weight, gradient, exp_avg, exp_avg_sq, adamw, step_size, root_of_correction):
    """An element of torch's fused AdamW, in its order of operations (fused_adam_utils.cuh of torch 2.13)."""
    beta1 = tl.load(adamw + _BETA1).to(tl.float32)
    beta2 = tl.load(adamw + _BETA2).to(tl.float32)
    decay = tl.load(adamw + _DECAY).to(tl.float32)
    along = gradient * tl.load(adamw + _SIGN).to(tl.float32)
    decayed = weight - tl.load(adamw + _LR).to(tl.float32) * decay * weight
    weight = tl.where(decay == 0, weight, decayed)
    exp_avg = tl.fma(beta1, exp_avg, tl.fma(-beta1, along, along))
    square = along * along
    exp_avg_sq = tl.fma(beta2, exp_avg_sq, tl.fma(-beta2, square, square))
    scale = tl.div_rn(tl.sqrt_rn(exp_avg_sq), root_of_correction) + tl.load(adamw + _EPS).to(tl.float32)
    return weight - tl.div_rn(step_size * exp_avg, scale), exp_avg, exp_avg_sq


@triton.jit
def bias_correction(beta, steps):
    """`1 − βᵗ` in float64, so that it keeps its digits. β = 0 has no logarithm, and 1 for its correction."""
    return 1 - tl.where(beta > 0, tl.exp(steps.to(tl.float64) * tl.log(tl.maximum(beta, 1e-300))), 0.0)


@triton.jit
def project_rows(
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
    radius = tl.load(tl.load(tensor + RADIUS).to(tl.pointer_type(tl.float32)))
    at_floor = radius <= FLOOR
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
        norm = tl.where(is_fragment, row_norm, norm + FLOOR)
        finite = norm < float("inf")
        in_block = start_row + tl.arange(0, TILE_ROWS) < end_row
        outside = finite & (norm > radius) & in_block
        # All of a row that is not finite says so at the floor, so that each element tells that the buffer keeps its anchor.
        moves = tl.where(at_floor, in_block, outside)
        scale = tl.where(at_floor, tl.where(finite, 0.0, float("nan")), radius / norm)
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
                rests = mask & finite[:, None]
                _store_held(held, held_type, held_offsets, displacement / norm[:, None], rests, READING)
        block_largest = tl.maximum(block_largest, tl.where(finite, norm, float("inf")))
        block_projected += outside.to(tl.float32)
    return tl.max(block_largest), tl.sum(block_projected)
