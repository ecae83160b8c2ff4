"""How the rows of a tensor lie in memory."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from .equations import RowDim, row_dims

__all__ = ["Grid", "Layout", "grid_of", "layout_of"]


class Layout(NamedTuple):
    """
    A tensor, its buffer and its gradient as matrices of rows. Rows are evenly spaced within groups of `rows_together`, which
    are evenly spaced again, and so are the elements of a row; where all are, they are one group.
    """

    rows_together: int
    columns_together: int
    weight: tuple[int, int, int, int]
    """How far apart in memory groups of rows, rows, groups of elements, and elements are."""
    held: tuple[int, int, int, int]
    gradient: tuple[int, int, int, int]


class Grid(NamedTuple):
    """
    A tensor, its buffer and its gradient laid out alike, so that a row has `inner` neighbours at each of `outer` places, `step`
    apart; where there are several places, rows lie side by side. Of a linear layer (1, in) of (out, in), of a transposed one
    (in, 1).
    """

    rows_together: int
    group_stride: int
    row_stride: int
    outer: int
    step: int
    inner: int


@functools.lru_cache(maxsize=1024)
def layout_of(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    held: tuple[int, ...],
    gradient: tuple[int, ...],
    row_dim: RowDim,
) -> Layout | None:
    """
    A tensor of this shape, its buffer and its gradient as matrices of rows, from their strides (`weight`, `held`, `gradient`);
    `None` if rows, or the elements of a row, are spaced in more than two ways.
    """
    counting = row_dims(row_dim, len(shape))
    # In the order of the weight, so that the rows and columns of the three are the same elements.
    dims = sorted((dim for dim in range(len(shape)) if shape[dim] > 1), key=weight.__getitem__, reverse=True)
    strides = [weight, held, gradient]
    rows = _even(shape, strides, [dim for dim in dims if dim in counting])
    columns = _even(shape, strides, [dim for dim in dims if dim not in counting])
    if max(len(rows), len(columns)) > 2:
        return None
    (_, *outer_rows), (rows_together, *inner_rows) = _two(rows)
    (_, *outer_columns), (columns_together, *inner_columns) = _two(columns)
    matrices = zip(outer_rows, inner_rows, outer_columns, inner_columns, strict=True)
    return Layout(rows_together, columns_together, *matrices)


def grid_of(layout: Layout, columns: int) -> Grid | None:
    """A layout with rows of so many elements as a grid; `None` if it is none."""
    if not layout.weight == layout.held == layout.gradient:
        return None
    group_stride, row_stride, step, stride = layout.weight
    together = layout.columns_together
    if stride != 1 and together > 1:
        if together < columns:
            return None
        step, together = stride, 1
    if together < columns and layout.rows_together > 1 and row_stride != together:
        return None
    return Grid(layout.rows_together, group_stride, row_stride, columns // together, step, together)


def _even(shape: tuple[int, ...], strides: Sequence[tuple[int, ...]], dims: Sequence[int]) -> list[list[int]]:
    """Lengths and strides of dimensions; of those that are evenly spaced in all tensors, as one."""
    found: list[list[int]] = []
    for dim in dims:
        own = [each[dim] for each in strides]
        if found and found[-1][1:] == [stride * shape[dim] for stride in own]:
            found[-1] = [found[-1][0] * shape[dim], *own]
        else:
            found.append([shape[dim], *own])
    return found


def _two(dims: list[list[int]]) -> list[list[int]]:
    return [[1, 0, 0, 0]] * (2 - len(dims)) + dims
