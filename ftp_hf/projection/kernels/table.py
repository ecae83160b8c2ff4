"""What the CUDA kernels are told: where tensors are, how their rows are cut into blocks, and the options."""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ftp_hf.projection.tensor import GRADIENT_DTYPES, HELD_DTYPES, Block, ProjectedTensor, blocks_of_rows

__all__ = ["Options", "Row", "on_device", "plan"]

_CAPTURED: list[tuple[Tensor, Tensor]] = []


class Row(NamedTuple):
    """A row of the table: where a tensor is, and its [`Layout`]."""

    weight: int
    held: int
    gradient: int
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


class Options(NamedTuple):
    """What an Adam step on the radii takes from the param group."""

    lr: float
    beta1: float
    beta2: float
    kappa: float
    sign: float


def plan(batch: Sequence[ProjectedTensor], elements: int) -> tuple[Tensor, Tensor, Tensor]:
    """
    The table, one [`Row`] per tensor; the blocks of rows; and the number of the first block of each tensor, and of them all.

    Args:
        batch (`Sequence[ProjectedTensor]`): of one device.
        elements (`int`): how many elements a block should have.
    """
    device = batch[0].weight.device
    return _table(device, tuple(map(_row, batch))), *_blocks(device, tuple(tensor.shape for tensor in batch), elements)


def _row(tensor: ProjectedTensor) -> Row:
    layout = tensor.layout
    if layout is None:
        raise ValueError(f"the rows of {tensor.name} are spaced in too many ways")
    return Row(
        tensor.weight.data_ptr(),
        tensor.held.data_ptr(),
        0 if tensor.grad is None else tensor.grad.data_ptr(),
        tensor.radius_row.data_ptr(),
        HELD_DTYPES.index(tensor.held.dtype),
        0 if tensor.grad is None else GRADIENT_DTYPES.index(tensor.grad.dtype),
        tensor.shape[1],
        layout.rows_together,
        layout.columns_together,
        *layout.weight,
        *layout.held,
        *layout.gradient,
        int(tensor.is_fragment),
    )


@functools.lru_cache(maxsize=32)
def _table(device: torch.device, rows: tuple[Row, ...]) -> Tensor:
    # Sent again only if an address in it changed.
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
def on_device(device: torch.device, options: Options) -> Tensor:
    """The options for the kernels. They are sent again only if one of them changed."""
    return torch.tensor(options, dtype=torch.float64, device=device)


@functools.lru_cache(maxsize=32)
def _blocks(device: torch.device, shapes: tuple[tuple[int, int], ...], elements: int) -> tuple[Tensor, Tensor]:
    blocks = blocks_of_rows(shapes, elements)
    counts = Counter(block.tensor for block in blocks)
    starts = itertools.accumulate((counts[number] for number in range(len(shapes))), initial=0)
    return torch.tensor(blocks, device=device).reshape(-1, len(Block._fields)), torch.tensor([*starts], device=device)
