"""Corruptions as functions of one value, and of a column of a data set."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .images import IMAGE_CORRUPTIONS, corrupt_image
from .strength import check_kind, check_severity
from .texts import TEXT_CORRUPTIONS, corrupt_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset

__all__ = ["corrupted", "corruption"]

# What `datasets` calls the values of a column.
_IMAGE_DTYPES = ("PIL.Image.Image",)
_TEXT_DTYPES = ("string", "large_string")


def corruption(kind: str, severity: int, seed: int = 0) -> Callable[[Any], Any]:
    """
    A corruption as a function of one value, to be called in a transform before the preprocessing:

    ```python
    corrupt = corruption("fog", severity=3)
    dataset.with_transform(lambda batch: processor([corrupt(resized(image)) for image in batch["image"]]))
    ```

    Args:
        kind (`str`): one of `IMAGE_CORRUPTIONS` or `TEXT_CORRUPTIONS`.
        severity (`int`): 1 to 5.
        seed (`int`, *optional*, defaults to 0): as for [`corrupt_image`] and [`corrupt_text`].

    Returns:
        `Callable`: from an image to an image, or from a text to a text; it can be pickled.

    Raises:
        ValueError: there is no such kind or severity.
    """
    check_kind(kind, (*IMAGE_CORRUPTIONS, *TEXT_CORRUPTIONS))
    check_severity(severity)
    return partial(
        corrupt_image if kind in IMAGE_CORRUPTIONS else corrupt_text, kind=kind, severity=severity, seed=seed
    )


def corrupted(dataset: Dataset, column: str, kind: str, severity: int, seed: int = 0) -> Dataset:
    """
    A data set of which one column is corrupted whenever rows are read. Nothing is computed or stored before.

    `map` sees the corrupted values. `with_transform` *replaces* the corruption: whoever needs a transform of his own
    calls [`corruption`] in it.

    Args:
        dataset (`datasets.Dataset`): without a format or transform of its own. It is not changed.
        column (`str`): a column of images or of texts.
        kind (`str`): one of `IMAGE_CORRUPTIONS` or `TEXT_CORRUPTIONS`.
        severity (`int`): 1 to 5.
        seed (`int`, *optional*, defaults to 0): as for [`corrupt_image`] and [`corrupt_text`].

    Returns:
        `datasets.Dataset`: with the same columns and rows.

    Raises:
        ValueError: there is no such kind, severity or column, the column holds something else, or the data set has a
            format.
    """
    function = corruption(kind, severity, seed)
    if column not in dataset.column_names:
        raise ValueError(f"column={column!r} is not in the data set; it has {', '.join(dataset.column_names)}")
    dtypes = _IMAGE_DTYPES if kind in IMAGE_CORRUPTIONS else _TEXT_DTYPES
    if getattr(dataset.features[column], "dtype", None) not in dtypes:
        raise ValueError(
            f"column={column!r} holds {dataset.features[column]}, but kind={kind!r} is for "
            f"{'images' if kind in IMAGE_CORRUPTIONS else 'texts'}; images are corrupted by "
            f"{', '.join(IMAGE_CORRUPTIONS)}, texts by {', '.join(TEXT_CORRUPTIONS)}"
        )
    if dataset.format["type"] is not None:
        raise ValueError(
            f"the data set has the format {dataset.format['type']!r}, which the corruption would replace: call "
            "corruption(...) in your own transform, or reset_format() first"
        )
    return dataset.with_transform(partial(_corrupt_column, column=column, function=function))


def _corrupt_column(batch: dict[str, list[Any]], column: str, function: Callable[[Any], Any]) -> dict[str, list[Any]]:
    # Only some columns are asked for when a data set is indexed by their name.
    return {**batch, column: [function(value) for value in batch[column]]} if column in batch else batch
