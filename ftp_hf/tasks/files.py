"""Columns of files, images or sounds, that a table gives by their paths or as bytes."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from datasets import Audio, Dataset, Image, Value, load_dataset, load_dataset_builder
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from PIL import Image as Pictures

from .cells import RowError

__all__ = ["as_files", "load_folder", "read_images"]

T = TypeVar("T")


def as_files(dataset: Dataset, column: str, feature: Any) -> Dataset:
    """
    A data set with files in a column.

    Args:
        dataset (`Dataset`): with paths, seen from the working directory if they are relative, or bytes, or both.
        column (`str`): that holds them.
        feature (`Audio` or `Image`): what they are.

    Raises:
        ValueError: it holds something else.
    """
    given = dataset.features[column]
    try:
        if isinstance(given, Value) and given.dtype == "large_string":  # as which a CSV file is read, and no `Audio`
            dataset = dataset.cast_column(column, Value("string"))
        return dataset.cast_column(column, feature)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"the column {column!r} holds {given}: it must hold files, as bytes or by path") from error


def load_folder(source: str, config: str | None, split: str) -> Dataset:
    """
    As `load_dataset`, of a local folder; sounds in it without torchcodec, as their files are all that is wanted of them.

    Args:
        source (`str`): the folder.
        config (`str`, *optional*): its configuration.
        split (`str`): which part of it.
    """
    builder = load_dataset_builder(source, config)
    if isinstance(builder, AudioFolder):
        builder.BASE_FEATURE = _SoundFile
        builder.download_and_prepare()  # what load_dataset finds in the cache
    return load_dataset(source, config, split=split)


class _SoundFile(Audio):  # type: ignore[misc] # of no known type
    def encode_example(self, value: Any) -> Any:
        """The file itself."""
        return {"bytes": None, "path": value} if isinstance(value, str) else value


def read_images(name: str, dataset: Dataset, column: str, convert: Callable[[Pictures.Image], T]) -> Iterator[T]:
    """
    What is made of each image of a data set, to find out before anything is trained whether all can be read. To decode one takes
    less than a hundredth of what it takes a small model to learn from it.

    Args:
        name (`str`): of the data set, for the error.
        dataset (`Dataset`): as it was loaded.
        column (`str`): of images or their files.
        convert (callable): makes it.

    Raises:
        ValueError: one is missing or damaged, or `convert` refuses it.
    """
    for row, file in enumerate(as_files(dataset, column, Image(decode=False))[column]):
        if file is None:
            raise RowError(row, f"{name} has no image in {column!r}: add it, or leave the row out")
        try:
            made = convert(Image().decode_example(file))
        except Exception as error:
            path = f" ({file['path']})" if file["path"] else ""
            raise RowError(row, f"{name} has an image in {column!r}{path} that cannot be read: {error}") from error
        yield made
