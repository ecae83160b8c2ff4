"""Whether the data sets of a comparison have rows of their own: those that a model learnt from would flatter it in a test."""

import filecmp
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, Image

from ftp_hf.tasks import Task
from ftp_hf.tasks.files import as_files
from ftp_hf.tasks.specs import DatasetSpec

__all__ = ["check_names_apart", "check_rows_apart", "known_inputs"]

_LEARNT_FROM = {"train", "validation"}


def check_names_apart(content: Mapping[str, Any]) -> None:
    """
    Raise `ValueError` if two keys name the same rows, in whatever spelling, or one of them is learnt from and one has all of a
    file of which the other has some. No file is read.
    """
    _check(content, _is_named_alike, lambda one, other: None in (one.column, other.column))


def check_rows_apart(content: Mapping[str, Any]) -> None:
    """
    Raise `ValueError` if two keys name files or folders of the same contents, or one of them is learnt from and they have rows
    of one in common. A folder of a single file, beside its card, is that file. The data sets must be loadable.
    """
    files, rows = functools.cache(_files), functools.cache(DatasetSpec.rows)

    def is_same(one: DatasetSpec, other: DatasetSpec) -> bool:
        return _is_named_alike(one, other) or (one[2:4] == other[2:4] and _are_copies(files(one), files(other)))

    def overlap(one: DatasetSpec, other: DatasetSpec) -> bool:
        # A row has one value in a column.
        return one.column != other.column and not rows(one).isdisjoint(rows(other))

    _check(content, is_same, overlap)


def known_inputs(task: Task[Any], train: Dataset, others: Sequence[Dataset]) -> list[int]:
    """
    How many rows of each of the other data sets have the input of a training row (the task's `input_columns`), whatever their
    labels. Sounds and images are the same if their files are.
    """
    learnt = {*_inputs(task, train)}
    return [sum(each in learnt for each in _inputs(task, other)) for other in others]


def _inputs(task: Task[Any], dataset: Dataset) -> Iterator[int]:
    """A hash of each row's input; none where the columns are not there."""
    if not len(dataset):  # whose bytes `datasets` cannot cast
        return
    named = [getattr(task.options, option, None) for option in task.input_columns]
    every = itertools.chain.from_iterable([each] if isinstance(each, str) else each or () for each in named)
    columns = [column for column in every if column in dataset.column_names]
    of_files = {getattr(task.options, option) for option in task.file_columns}
    for column in columns:
        if column in of_files or isinstance(dataset.features[column], Audio | Image):
            dataset = as_files(dataset, column, Image(decode=False))  # which has the files of sounds just as well
    for values in zip(*(dataset[column] for column in columns), strict=True):
        yield hash(tuple(map(_hashable, values)))


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if not isinstance(value, dict):
        return value
    if value.get("bytes") is None and Path(path := value.get("path") or "").is_file():
        return Path(path).read_bytes()
    return value.get("bytes") or value.get("path")


_Test = Callable[[DatasetSpec, DatasetSpec], bool]


def _check(content: Mapping[str, Any], is_same: _Test, overlap: _Test) -> None:
    """Raise if two data sets are the same, or parts of the same that overlap and one of them is learnt from."""
    for keys, one, other in _pairs(content):
        if is_same(one, other) and (one[4:] == other[4:] or (_LEARNT_FROM & {*keys} and overlap(one, other))):
            raise _same(keys, other)


def _pairs(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], DatasetSpec, DatasetSpec]]:
    """The keys of two data sets, and what they name."""
    single = [(key, content[key]) for key in ("train", "validation", "test") if content.get(key)]
    several = [(kind, text) for kind in ("ood", "retained") for text in content.get(kind, [])]
    named = [(key, DatasetSpec.parse(text)) for key, text in (*single, *several)]
    for (key, one), (other_key, other) in itertools.combinations(named, 2):
        yield (key, other_key), one, other


def _is_named_alike(one: DatasetSpec, other: DatasetSpec) -> bool:
    return _place(one) == _place(other)


def _place(spec: DatasetSpec) -> DatasetSpec:
    """All but its name and which rows are kept, in one spelling."""
    path = Path(spec.source)
    return spec._replace(name="", source=str(path.resolve() if path.exists() else path), column=None, value=None)


def _files(spec: DatasetSpec) -> list[Path]:
    return [file for file in spec.files() if file.suffix != ".md"]


def _are_copies(ones: Sequence[Path], others: Sequence[Path]) -> bool:
    """Files are read as far as they are alike, if their sizes are."""
    if not ones or len(ones) != len(others):
        return False
    return all(filecmp.cmp(one, other, shallow=False) for one, other in zip(ones, others, strict=True))


def _same(keys: tuple[str, str], other: DatasetSpec) -> ValueError:
    where = f"{other.source}{f'?{other.column}={other.value}' if other.column else ''}"
    return ValueError(f"{' and '.join(keys)} name the same data, {where!r}: each needs rows of its own")
