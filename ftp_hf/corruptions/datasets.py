"""Corruptions as functions of one value, and of a column of a data set."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

from .audio import AUDIO_CORRUPTIONS, corrupt_audio
from .images import IMAGE_CORRUPTIONS, corrupt_image
from .sounds import read_sound, write_sound
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
        kind (`str`): one of `IMAGE_CORRUPTIONS`, `TEXT_CORRUPTIONS` or `AUDIO_CORRUPTIONS`.
        severity (`int`): 1 to 5.
        seed (`int`, *optional*, defaults to 0): as for [`corrupt_image`], [`corrupt_text`] and [`corrupt_audio`].

    Returns:
        `Callable`: from an image to an image, from a text to a text, or from a [`Sound`] to a [`Sound`]; it can be
            pickled.

    Raises:
        ValueError: there is no such kind or severity.
    """
    check_kind(kind, (*IMAGE_CORRUPTIONS, *TEXT_CORRUPTIONS, *AUDIO_CORRUPTIONS))
    check_severity(severity)
    function: Callable[..., Any]
    if kind in IMAGE_CORRUPTIONS:
        function = corrupt_image
    else:
        function = corrupt_text if kind in TEXT_CORRUPTIONS else corrupt_audio
    return partial(function, kind=kind, severity=severity, seed=seed)


def corrupted(dataset: Dataset, column: str, kind: str, severity: int, seed: int = 0) -> Dataset:
    """
    A data set of which one column is corrupted whenever rows are read. Nothing is computed or stored before.

    `map` sees the corrupted values. `with_transform` *replaces* the corruption: for a transform of your own,
    call [`corruption`] in it.

    Args:
        dataset (`datasets.Dataset`): without a format or transform of its own. It is not changed.
        column (`str`): a column of images, of texts, or of sounds: files, as `{"bytes": …, "path": …}`. Columns of the
            type `Audio` are not decoded, for which `datasets` needs torchcodec: the corrupted sound is such a file too.
        kind (`str`): one of `IMAGE_CORRUPTIONS`, `TEXT_CORRUPTIONS` or `AUDIO_CORRUPTIONS`.
        severity (`int`): 1 to 5.
        seed (`int`, *optional*, defaults to 0): as for [`corrupt_image`], [`corrupt_text`] and [`corrupt_audio`].

    Returns:
        `datasets.Dataset`: with the same columns and rows.

    Raises:
        ValueError: there is no such kind, severity or column, the column holds something else, or the data set has a
            format.
    """
    function = corruption(kind, severity, seed)
    if column not in dataset.column_names:
        raise ValueError(f"column={column!r} is not in the data set; it has {', '.join(dataset.column_names)}")
    feature = dataset.features[column]
    if kind not in _kinds_for(feature):
        what = {IMAGE_CORRUPTIONS: "images", TEXT_CORRUPTIONS: "texts", AUDIO_CORRUPTIONS: "sounds"}
        raise ValueError(
            f"column={column!r} holds {feature}, but kind={kind!r} is for "
            f"{next(name for kinds, name in what.items() if kind in kinds)}; "
            + ", ".join(f"{name} are corrupted by {', '.join(kinds)}" for kinds, name in what.items())
        )
    if dataset.format["type"] is not None:
        raise ValueError(
            f"the data set has the format {dataset.format['type']!r}, which the corruption would replace: call "
            "corruption(...) in your own transform, or reset_format() first"
        )
    if kind in AUDIO_CORRUPTIONS:
        function = partial(_corrupt_file, function=function)
        if not isinstance(feature, dict):
            dataset = dataset.cast_column(column, dataclasses.replace(feature, decode=False))
    return dataset.with_transform(partial(_corrupt_column, column=column, function=function))


def _kinds_for(feature: Any) -> tuple[str, ...]:
    dtype = getattr(feature, "dtype", None)
    if dtype in _IMAGE_DTYPES:
        return IMAGE_CORRUPTIONS
    if dtype in _TEXT_DTYPES:
        return TEXT_CORRUPTIONS
    is_file = isinstance(feature, dict) and feature.keys() == {"bytes", "path"}
    return AUDIO_CORRUPTIONS if is_file or type(feature).__name__ == "Audio" else ()


def _corrupt_file(file: dict[str, Any], function: Callable[[Any], Any]) -> dict[str, Any]:
    return write_sound(function(read_sound(file)))


def _corrupt_column(batch: dict[str, list[Any]], column: str, function: Callable[[Any], Any]) -> dict[str, list[Any]]:
    # Only some columns are asked for when a data set is indexed by their name.
    return {**batch, column: [function(value) for value in batch[column]]} if column in batch else batch
