"""Columns of files, images or sounds, that a table gives by their paths or as bytes."""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from datasets import Audio, Dataset, DatasetBuilder, Image, Value, load_dataset, load_dataset_builder
from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
from PIL import Image as Pictures

from .row_checks import RowError

__all__ = ["as_files", "load_folder", "named_files", "read_images"]

T = TypeVar("T")

_SPLITS = {*chain.from_iterable(SPLIT_KEYWORDS.values())}


def as_files(dataset: Dataset, column: str, feature: Any) -> Dataset:
    """
    A data set with files in a column: paths, seen from the working directory if they are relative, or bytes, or both.

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


def named_files(dataset: Dataset, column: str) -> list[Path]:
    """
    The files that a column (see [`as_files`]) names by their paths, each once, without those that are not there. Of one that
    holds files as bytes, none.
    """
    contents, paths = as_files(dataset, column, Image(decode=False)).data.column(column).flatten()
    named = paths.filter(contents.is_null()).drop_null().unique().to_pylist()
    return [file for file in map(Path, named) if file.is_file()]


def load_folder(source: str, config: str | None, split: str) -> Dataset:
    """
    As `load_dataset`, of a local folder; sounds in it without torchcodec, as their files are all that is wanted of them.

    `datasets` finds splits by words such as "test" in the names of folders and files, and drops files without one. Images or
    sounds of which some would be dropped are all in the split `train` here, unless a folder with such a name holds folders of
    classes or metadata.
    """
    builder, options = load_dataset_builder(source, config), {}
    if (
        isinstance(builder, FolderBasedBuilder)
        and _is_guess(builder, config)
        and not _has_split_folders(builder, source)
    ):
        whole = load_dataset_builder(source, data_files="**")
        if isinstance(whole, FolderBasedBuilder) and _files_of_rows(whole) != _files_of_rows(builder):
            builder, options = whole, {"data_files": "**"}
    if isinstance(builder, AudioFolder):
        builder.BASE_FEATURE = _SoundFile
        builder.download_and_prepare()  # what load_dataset finds in the cache
    return load_dataset(source, config, split=split, **options)


def _is_guess(builder: DatasetBuilder, config: str | None) -> bool:
    """Whether a folder's own card does not say which files are of which split."""
    return config is None and builder.DEFAULT_CONFIG_NAME is None


def _has_split_folders(builder: FolderBasedBuilder, source: str) -> bool:
    """Whether folders named as splits hold more than images or sounds alone, which would make them folders of a class."""
    folder, files = Path(source).resolve(), _files_of_rows(builder)
    for file in map(Path, chain.from_iterable(builder.config.data_files.values())):
        above = file.relative_to(folder).parts[: -2 if str(file) in files else -1]
        if any(_SPLITS.intersection(re.split(f"[{NON_WORDS_CHARS}]", part)) for part in above):
            return True
    return False


def _files_of_rows(builder: FolderBasedBuilder) -> set[str]:
    """The images or sounds, without metadata."""
    files = chain.from_iterable(builder.config.data_files.values())
    return {file for file in files if Path(file).suffix.lower() in builder.EXTENSIONS}


class _SoundFile(Audio):  # type: ignore[misc] # of no known type
    def encode_example(self, value: Any) -> Any:
        """The file itself."""
        return {"bytes": None, "path": value} if isinstance(value, str) else value


def read_images(name: str, dataset: Dataset, column: str, convert: Callable[[Pictures.Image], T]) -> Iterator[T]:
    """
    What `convert` makes of each image of a data set, to find out before anything is trained whether all can be read. To decode
    one takes less than a hundredth of what it takes a small model to learn from it.

    Raises:
        ValueError: one is missing or damaged, or `convert` refuses it; names the data set and the row.
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
