"""Checks of the columns, rows and cells of a data set before anything is trained, with errors that name them."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

from datasets import Dataset

__all__ = ["RowError", "check_column", "check_filled", "check_numbers", "check_rows", "check_texts"]

_BATCH = 1000


class RowError(ValueError):
    """
    What is wrong with a row.

    Args:
        row (`int`): its number, from 0.
        what (`str`): the data set that it is of, and what is wrong.
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(row, what)
        self.row, self.what = row, what

    def __str__(self) -> str:
        return f"row {self.row} of {self.what}"


def check_column(name: str, dataset: Dataset, column: str, key: str | None = None) -> None:
    """Raise `ValueError` for a data set without a column; `key` is the key of the config that names it, if there is one."""
    if column not in dataset.column_names:
        remedy = f": name it in {key}" if key else ""
        raise ValueError(f"no column {column!r} in {name} with the columns {dataset.column_names}{remedy}")


def check_rows(name: str, dataset: Dataset) -> None:
    """Raise `ValueError` for a data set without rows."""
    if len(dataset) == 0:
        raise ValueError(f"data set {name!r} is empty")


def check_texts(name: str, dataset: Dataset, column: str) -> None:
    """Raise `ValueError` for a row without a text, naming the data set. An empty text is allowed."""
    for row, text in enumerate(_cells(dataset, column)):
        if not isinstance(text, str):
            raise RowError(row, f"{name} has no text in {column!r}, but {text!r}: write one, or leave it out")


def check_numbers(name: str, dataset: Dataset, column: str) -> None:
    """Raise `ValueError` for a row whose number is missing or not finite, naming the data set."""
    for row, value in enumerate(_cells(dataset, column)):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise RowError(row, f"{name} has {value!r} in {column!r}: it must be a finite number")


def check_filled(name: str, dataset: Dataset, column: str) -> None:
    """Raise `ValueError` for a row without a value, or with a list in which one is missing. An empty list is allowed."""
    for row, value in enumerate(_cells(dataset, column)):
        if value is None or (isinstance(value, list) and None in value):
            raise RowError(
                row, f"{name} has {value!r} in {column!r}, where nothing may be empty: fill it, or leave the row out"
            )


def _cells(dataset: Dataset, column: str) -> Iterator[Any]:
    # In batches: one by one takes a hundred times as long, and all at once the memory of a corpus.
    alone = dataset.select_columns([column]).with_format(None)
    return chain.from_iterable(batch[column] for batch in alone.iter(batch_size=_BATCH))
