"""Load data sets by Hub name or local path."""

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetsError

from ftp_hf.common.files import checksum

from .files import load_folder
from .row_checks import check_column

__all__ = ["DatasetSpec", "UnreachableError"]

_SPEC = re.compile(
    r"((?P<name>[\w-]+)=)?(?P<source>[^#?:]+)(:(?P<config>[^#?]+))?(#(?P<split>[^?]+))?(\?(?P<column>\w+)=(?P<value>.+))?"
)
_NAMED = re.compile(r"((?P<name>[\w-]+)=)?(?P<source>.+)")
_BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
_INDEX = "__index_level_0__"
"""What pandas calls a first column without a name."""


class UnreachableError(ValueError):
    """A data set is on the Hub, and the Hub does not answer."""


class DatasetSpec(NamedTuple):
    """
    One data set: `[NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE]`.

    `SOURCE` is a local file (Parquet, CSV, JSON), a local folder or a name on the Hub; `SPLIT` defaults to `train`;
    `?COLUMN=VALUE` keeps the rows whose column has that value. A path that exists is taken whole, whatever signs it has, with or
    without `NAME=` in front of it. `NAME` is what the data set is called in the results and defaults to the file's or data set's own name.
    """

    name: str
    source: str
    config: str | None
    split: str
    column: str | None
    value: str | None

    @classmethod
    def parse(cls, text: str) -> "DatasetSpec":
        """
        Raises:
            ValueError: `text` is not of the form above.
        """
        named = _NAMED.fullmatch(text)
        for name, source in ((named["name"], named["source"]), (None, text)) if named else ():
            if os.path.exists(source):  # noqa: PTH110 - a name may be longer than a path can be
                return cls(name or Path(source).stem, source, None, "train", None, None)
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ValueError(f"data set {text!r} is not of the form [NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE]")
        parts = match.groupdict()
        return cls(
            name=parts["name"] or Path(parts["source"]).stem,
            source=parts["source"],
            config=parts["config"],
            split=parts["split"] or "train",
            column=parts["column"],
            value=parts["value"],
        )

    def numbered(self) -> tuple[Dataset, list[int]]:
        """
        The rows that it keeps, and the number that each has in the whole data set, from 0.

        Raises:
            FileNotFoundError: a local file or folder, or a data set on the Hub, is not there.
            ValueError: the data set has no such split or column, no row has the value, or its file is empty, damaged or of
                another kind; an [`UnreachableError`] if the Hub does not answer.
            OSError: nothing can be written to the cache of datasets.
        """
        whole = self._whole()
        kept = self._kept(whole)
        return whole if self.column is None else whole.select(kept), kept

    def rows(self) -> set[int]:
        """The numbers of the rows that it keeps, as of [`numbered`]."""
        return {*self.numbered()[1]}

    def files(self) -> list[Path]:
        """
        Its local file, or all files in its local folder without the hidden ones, which are not loaded. None of a data set on the
        Hub.
        """
        path = Path(self.source)
        inside = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path))]
        return [path] if path.is_file() else sorted(inside)

    def _whole(self) -> Dataset:
        path = Path(self.source)
        kind = path.suffix.lower()
        if kind in _BUILDERS:
            if not path.is_file():
                fault = "is a folder" if path.is_dir() else "does not exist"
                raise FileNotFoundError(f"data set {self.name!r}: {self.source} {fault}")
            if path.stat().st_size == 0:
                raise ValueError(f"data set {self.name!r} is empty: {self.source} has no bytes")
            if self.split != "train":
                raise ValueError(f"{self.source} is a file and has no split {self.split!r}: leave #{self.split} out")
            if kind == ".csv":
                self._check_separator(path)
            # Of a file whose time is as it was, `datasets` would find the old rows in its cache.
            name, whole = checksum(path), glob.escape(str(path.absolute()))
            rows = self._load(load_dataset, _BUILDERS[kind], name, data_files=whole, split="train")
            self._check_header(rows)
            return rows
        if path.is_file():
            raise ValueError(f"{self.source} is none of {', '.join(_BUILDERS)}: convert it to one of them")
        if path.is_dir() and glob.has_magic(str(path.resolve())):
            raise ValueError(f"{path.resolve()} is taken for a pattern: rename the folder, without any of * ? [")
        load = load_folder if path.is_dir() else load_dataset
        return self._load(load, self.source, self.config, split=self.split)

    def _check_separator(self, path: Path) -> None:
        with path.open(encoding="utf-8", errors="replace") as file:
            header = file.readline()
        if ";" in header and "," not in header:
            raise ValueError(
                f"data set {self.name!r}: the first line of {self.source} is {header.strip()!r}, with semicolons and no comma: save "
                "it as a CSV file with commas between the columns, and texts with a comma in double quotes"
            )

    def _check_header(self, rows: Dataset) -> None:
        if _INDEX in rows.column_names and Path(self.source).suffix.lower() == ".csv":
            with Path(self.source).open(encoding="utf-8") as file:
                header = file.readline()
            if _INDEX not in header:
                raise ValueError(
                    f"data set {self.name!r}: the rows of {self.source} have more values than its first line has names: put "
                    "texts with a comma in double quotes, and a name above each column"
                )

    def _kept(self, whole: Dataset) -> list[int]:
        if self.column is None:
            return [*range(len(whole))]
        check_column(self.source, whole, self.column)
        values = [str(value) for value in whole[self.column]]
        rows = [row for row, value in enumerate(values) if value == self.value]
        if not rows:
            raise ValueError(
                f"{self.source}: no row has {self.column}={self.value}; it has, among others, {', '.join(sorted({*values})[:10])}"
            )
        return rows

    def _load(self, load: Callable[..., Dataset], *args: Any, **options: Any) -> Dataset:
        try:
            return load(*args, **options)
        except ConnectionError as error:
            raise UnreachableError(
                f"data set {self.name!r} cannot be loaded from {self.source}: {error}. Check the connection, or name a local file"
            ) from error
        except (OSError, ValueError, DatasetsError) as error:
            cause = _cause(error)
            if isinstance(cause, OSError) and cause.filename and _is_in_cache(Path(cause.filename)):
                raise OSError(
                    f"the cache of datasets cannot be written: {cause}. Set HF_HOME to a folder that can be"
                ) from error
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"data set {self.name!r} cannot be loaded from {self.source}: {_reason(error)}") from error


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_in_cache(path: Path) -> bool:
    """Or what it lies in, where that cannot be made."""
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    return path in cache.parents or path.is_relative_to(cache)


def _cause(error: BaseException) -> BaseException:
    return (isinstance(error, DatasetsError) and error.__cause__) or error


def _reason(error: Exception) -> str:
    """The useful part of an error of `datasets`: often it is in the cause, and the error says only "while generating"."""
    if "corresponds to no data" in str(error):
        return "it has no rows"
    cause = _cause(error)
    return f"{cause}{': save it as UTF-8' * isinstance(cause, UnicodeDecodeError)}"
