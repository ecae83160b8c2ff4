"""How the rows of tensors are cut into pieces of work."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Block", "blocks_of_rows"]


class Block(NamedTuple):
    """A piece of work: some rows of one of several tensors."""

    tensor: int
    """Its number."""
    first_row: int
    end_row: int
    """The row after the last one."""


def blocks_of_rows(shapes: Sequence[tuple[int, int]], elements: int) -> list[Block]:
    """
    Pieces of work of about the same size, none longer than a row needs.

    Args:
        shapes (`Sequence[tuple[int, int]]`): rows and columns of each tensor.
        elements (`int`): how many elements a piece should have.

    Returns:
        `list[Block]`
    """
    return [
        Block(number, first, min(first + step, rows))
        for number, (rows, columns) in enumerate(shapes)
        for step in [max(1, elements // columns)]
        for first in range(0, rows, step)
    ]
