"""What the CUDA kernels get: where tensors are, how they read them, how their rows are cut into blocks, and the options."""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ftp_hf.projection.adamw_step import AdamWStep
from ftp_hf.projection.batch import remembered
from ftp_hf.projection.layout import Layout
from ftp_hf.projection.tensor import GRADIENT_DTYPES, HELD_DTYPES, ProjectedTensor

from .blocks import Block, blocks_of_rows

__all__ = ["AdamWOptions", "RadiusOptions", "Reading", "Row", "gradients_of", "on_device", "plan"]

_CAPTURED: list[tuple[Tensor, ...]] = []
"""Tensors that replays of CUDA graphs read, kept alive for them."""

SHORT_ROW = 1024
"""Rows up to this length are read several per tile."""
_LEAST_ROW = 256
"""Shortest row that is read so: shorter ones would leave too much of a tile empty."""
_VECTOR = 8
"""Elements that a row has to be aligned to for the widest loads: 16 bytes of bfloat16."""


class Reading(IntEnum):
    """How the kernels read a tensor, tile by tile."""

    ANY = auto()
    """Through the strides of a [`Layout`], at the cost of integer divisions."""
    UPRIGHT = auto()
    """The rows lie side by side, as those of a transposed weight."""
    SHORT = auto()
    """The elements of a row lie side by side, from a boundary of 16 bytes on, and there are `_LEAST_ROW` to `SHORT_ROW`."""
    LONG = auto()
    """As `SHORT`, of more."""


class Row(NamedTuple):
    """A row of the table: where a tensor is, without its gradient, and its [`Layout`]."""

    weight: int
    held: int
    radius: int
    held_type: int
    gradient_type: int
    columns: int
    rows_together: int
    columns_together: int
    weight_rows: int
    weight_row: int
    weight_columns: int
    weight_column: int
    held_rows: int
    held_row: int
    held_columns: int
    held_column: int
    gradient_rows: int
    gradient_row: int
    gradient_columns: int
    gradient_column: int
    is_fragment: int
    reading: int
    exp_avg: int
    """0 where the tensor does not take AdamW's step in the pass of the radius gradient."""
    exp_avg_sq: int
    taken: int
    """The steps taken; without a step, of any number."""


class RadiusOptions(NamedTuple):
    """What an Adam step on the radii takes from the param group."""

    lr: float
    beta1: float
    beta2: float
    kappa: float
    sign: float

    @classmethod
    def of(cls, group: dict[str, Any]) -> "RadiusOptions":
        """Those of a param group."""
        beta1, beta2 = group["radius_betas"]
        return cls(group["radius_lr"], beta1, beta2, group["kappa"], _sign(group))


class AdamWOptions(NamedTuple):
    """What AdamW's step takes from the param group."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    sign: float

    @classmethod
    def of(cls, group: dict[str, Any]) -> "AdamWOptions":
        """Those of a param group."""
        beta1, beta2 = map(float, group["betas"])
        return cls(float(group["lr"]), beta1, beta2, group["eps"], group["weight_decay"], _sign(group))


def _sign(group: dict[str, Any]) -> float:
    return -1.0 if group.get("maximize", False) else 1.0


def plan(
    batch: Sequence[ProjectedTensor], elements: int, steps: Sequence[AdamWStep | None] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """
    The table, one [`Row`] per tensor; the blocks of rows; and the number of the first block of each tensor, and of them all.

    Args:
        batch (`Sequence[ProjectedTensor]`): of one device.
        elements (`int`): how many elements a block should have.
        steps (sequence of [`AdamWStep`] or `None`, *optional*): one for each tensor, or none.
    """
    find = functools.partial(_plan, batch, elements, steps)
    if _is_captured(batch[0].weight.device):
        planned = find()
        _CAPTURED.append(planned)
        return planned
    return remembered(batch, (plan, elements, bool(steps)), find)


def _plan(
    batch: Sequence[ProjectedTensor], elements: int, steps: Sequence[AdamWStep | None]
) -> tuple[Tensor, Tensor, Tensor]:
    device = batch[0].weight.device
    table = _sent([*itertools.starmap(_row, itertools.zip_longest(batch, steps))], device)
    return table, *_blocks(device, tuple(tensor.shape for tensor in batch), elements)


def _row(tensor: ProjectedTensor, step: AdamWStep | None) -> Row:
    layout = tensor.layout
    if layout is None:
        raise ValueError(f"the rows of {tensor.name} are spaced in too many ways")
    radius = tensor.radius_row.data_ptr()
    moments = (0, 0, radius) if step is None else tuple(each.data_ptr() for each in step.tensors)
    addresses = (tensor.weight.data_ptr(), tensor.held.data_ptr())
    return Row(
        *addresses,
        radius,
        HELD_DTYPES.index(tensor.held.dtype),
        0 if tensor.grad is None else GRADIENT_DTYPES.index(tensor.grad.dtype),
        tensor.shape[1],
        layout.rows_together,
        layout.columns_together,
        *layout.weight,
        *layout.held,
        *layout.gradient,
        int(tensor.is_fragment),
        _reading(layout, tensor.shape, (*addresses, _gradient(tensor), *moments[:2])),
        *moments,
    )


def _reading(layout: Layout, shape: tuple[int, int], addresses: Sequence[int]) -> Reading:
    rows, columns = shape
    own = (layout.weight, layout.held, layout.gradient)
    if layout.rows_together < rows or layout.columns_together < columns:
        return Reading.ANY
    if all(strides[1] == 1 for strides in own):
        return Reading.UPRIGHT
    aligned = not any(address % (2 * _VECTOR) for address in addresses)
    if (
        aligned
        and columns >= _LEAST_ROW
        and not columns % _VECTOR
        and all(strides[3] == 1 and not strides[1] % _VECTOR for strides in own)
    ):
        return Reading.SHORT if columns <= SHORT_ROW else Reading.LONG
    return Reading.ANY


def gradients_of(batch: Sequence[ProjectedTensor]) -> Tensor:
    """The addresses of the gradients, which are often elsewhere than at the step before."""
    return _sent([_gradient(tensor) for tensor in batch], batch[0].weight.device)


def _gradient(tensor: ProjectedTensor) -> int:
    grad = tensor.grad
    return 0 if grad is None else grad.data_ptr()


def on_device(device: torch.device, options: RadiusOptions | AdamWOptions) -> Tensor:
    """The options for the kernels. They are sent again only if one of them changed."""
    return _send_options(device, options) if _is_captured(device) else _kept_options(device, options)


def _send_options(device: torch.device, options: RadiusOptions | AdamWOptions) -> Tensor:
    return _sent(options, device, torch.float64)


_kept_options = functools.lru_cache(maxsize=1024)(_send_options)


def _sent(values: Sequence[Any], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Values on the device, without a wait for it."""
    host = torch.tensor(values, dtype=dtype, device="cpu")
    if device.type != "cuda":
        return host
    host = host.pin_memory()
    sent = host.to(device, non_blocking=True)
    if _is_captured(device):
        # Each replay of the graph copies again, from the same memory.
        _CAPTURED.append((host, sent))
    return sent


def _is_captured(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured: what it is told is its own, for as long as it is replayed."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@functools.lru_cache(maxsize=32)
def _blocks(device: torch.device, shapes: tuple[tuple[int, int], ...], elements: int) -> tuple[Tensor, Tensor]:
    blocks = blocks_of_rows(shapes, elements)
    counts = Counter(block.tensor for block in blocks)
    starts = itertools.accumulate((counts[number] for number in range(len(shapes))), initial=0)
    return torch.tensor(blocks, device=device).reshape(-1, len(Block._fields)), torch.tensor([*starts], device=device)
