"""
The projection of float32 weights on CUDA, in five launches a step whatever the number of tensors (seven and an
all-gather, if they are sharded). The first of them may take AdamW's step on its way.

Each launch works on a table of addresses, one row per tensor, and on a list of blocks of rows, one per program
(cuda_table.py; cuda_rows.py says what is done to them). Nothing is read by the host, so that a step can be captured in a
CUDA graph.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftp_hf.projection.adamw_step import AdamWStep
from ftp_hf.projection.equations import ADAM_EPS
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.rates import fan_ins, radius_rates
from ftp_hf.projection.tensor import GRADIENT_DTYPES, HELD_DTYPES, ProjectedTensor

from .blocks import Block
from .cuda_rows import (
    ANY,
    AT_FLOOR,
    FLOOR,
    LONG,
    RADIUS,
    SHORT,
    UPRIGHT,
    bias_correction,
    places,
    project_rows,
    radius_gradient_of_rows,
)
from .cuda_table import SHORT_ROW, AdamWOptions, RadiusOptions, Row, gradients_of, on_device, plan

__all__ = ["ROUNDS_MASTERS", "TAKES_ADAMW_STEPS", "distances", "project", "radius_gradients", "takes"]

ROUNDS_MASTERS = False
TAKES_ADAMW_STEPS = True

_BLOCK_ELEMENTS = 2**15
_TILES = {"TILE": 2048, "SPREAD_TILE": 512, "num_warps": 4}
"""Elements of a tile; where each of them has an address of its own `SPREAD_TILE`, or of rows side by side twice that."""
_REDUCTION = {"BLOCK": 128}


# What the kernels see: the places of the fields, and the constants of the method.
_FIELDS = tl.constexpr(len(Row._fields))
_BLOCK_FIELDS = tl.constexpr(len(Block._fields))
(_READING,) = places(Row._fields, "reading")
_EXP_AVG, _EXP_AVG_SQ, _STEP, _ROWS_PROJECTED = places(
    RadiusState._fields, "exp_avg", "exp_avg_sq", "step", "rows_projected"
)
_LR, _BETA1, _BETA2, _KAPPA, _SIGN = places(RadiusOptions._fields, *RadiusOptions._fields)
_SHORT_ROW = tl.constexpr(SHORT_ROW)
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
    partials = _floats(table.device, len(blocks))
    # Without a step nothing is read of the options.
    options = on_device(table.device, AdamWOptions.of(batch[0].group)) if moves else partials
    inputs = (table, blocks, gradients_of(batch), options)
    _launch(_radius_gradient_kernel, len(blocks), *inputs, partials, MOVES=moves, **_TILES)
    gradients = _floats(table.device, len(batch))
    _launch(_sum_kernel, len(batch), table, starts, partials, gradients, **_REDUCTION)
    return gradients


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """Learn the radii and project every tensor, as in [`eager.project`], in three launches."""
    table, blocks, starts = plan(batch, _BLOCK_ELEMENTS)
    if gradients is not None:
        group = batch[0].group
        shared = on_device(table.device, RadiusOptions.of(group))
        rates = radius_rates(group, functools.partial(fan_ins, batch), shared.dtype)
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
    largest = _floats(table.device, len(batch))
    _launch(_max_kernel, len(batch), starts, found, largest, **_REDUCTION)
    return largest


def _norms(table: Tensor, blocks: Tensor, largest: Tensor | None, *, project: bool) -> tuple[Tensor, Tensor]:
    """Of each block, its largest row norm and how many of its rows lie outside the ball; and project them, if asked to."""
    found, projected = _floats(table.device, 2, len(blocks))
    row_norms = found if largest is None else largest
    _launch(_project_kernel, len(blocks), table, blocks, row_norms, found, projected, PROJECT=project, **_TILES)
    return found, projected


def _floats(device: torch.device, *shape: int) -> Tensor:
    """Room for what kernels find, of float32 whatever torch's default dtype is."""
    return torch.empty(shape, dtype=torch.float32, device=device)


def _launch(kernel: Any, programs: int, *arguments: Tensor, **constants: Any) -> None:
    if programs:
        kernel[(programs,)](*arguments, **constants)


@triton.jit
def _block(blocks):
    """The tensor of this program's block, its first row and the row after its last one."""
    block = blocks + _BLOCK_FIELDS * tl.program_id(0)
    return tl.load(block), tl.load(block + 1), tl.load(block + 2)


@triton.jit
def _radius_row(table):
    """The state of the radius of this program's tensor."""
    return tl.load(table + tl.program_id(0) * _FIELDS + RADIUS).to(tl.pointer_type(tl.float32))


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
def _sum_kernel(table, starts, values, sums, BLOCK: tl.constexpr):
    tl.store(sums + tl.program_id(0), _sum(starts, values, BLOCK))
    # All blocks of the tensor have the anchor in their buffer again.
    tl.store(_radius_row(table) + AT_FLOOR, 0.0)


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
    if reading == LONG:
        gradient = radius_gradient_of_rows(tensor, address, adamw, first, end, MOVES, LONG, 1, TILE)
    elif reading == SHORT:
        gradient = radius_gradient_of_rows(
            tensor, address, adamw, first, end, MOVES, SHORT, TILE // _SHORT_ROW, _SHORT_ROW
        )
    elif reading == UPRIGHT:
        gradient = radius_gradient_of_rows(tensor, address, adamw, first, end, MOVES, UPRIGHT, 32, SPREAD_TILE // 16)
    else:
        gradient = radius_gradient_of_rows(tensor, address, adamw, first, end, MOVES, ANY, 16, SPREAD_TILE // 16)
    tl.store(partials + tl.program_id(0), gradient)


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
    scale = tl.sqrt(new_exp_avg_sq / bias_correction(beta2, step)) + _ADAM_EPS
    new_radius = radius - lr * (new_exp_avg / bias_correction(beta1, step)) / scale

    # A gradient that overflows changes nothing but the count.
    finite = new_exp_avg_sq.to(tl.float32) < float("inf")
    tl.store(radius_row, tl.where(finite, tl.maximum(new_radius.to(tl.float32), FLOOR), radius))
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
    if reading == LONG:
        norm, count = project_rows(tensor, row_norm, first, end, PROJECT, LONG, 1, TILE)
    elif reading == SHORT:
        norm, count = project_rows(tensor, row_norm, first, end, PROJECT, SHORT, TILE // _SHORT_ROW, _SHORT_ROW)
    elif reading == UPRIGHT:
        norm, count = project_rows(tensor, row_norm, first, end, PROJECT, UPRIGHT, 32, SPREAD_TILE // 16)
    else:
        norm, count = project_rows(tensor, row_norm, first, end, PROJECT, ANY, 16, SPREAD_TILE // 16)
    tl.store(largest + tl.program_id(0), norm)
    tl.store(projected + tl.program_id(0), count)


@triton.jit
def _settle_kernel(table, starts, largest, projected, IS_WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    radius_row = _radius_row(table)
    bound = tl.load(largest + tl.program_id(0)) if IS_WHOLE else _max(starts, largest, BLOCK)
    radius = tl.load(radius_row)
    clipped = tl.where(bound < float("inf"), tl.minimum(radius, bound), radius)
    tl.store(radius_row, tl.maximum(clipped, FLOOR))
    tl.store(radius_row + AT_FLOOR, (radius <= FLOOR).to(tl.float32))
    tl.store(radius_row + _ROWS_PROJECTED, _sum(starts, projected, BLOCK))
