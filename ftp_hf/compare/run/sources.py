"""What the runs in a folder were made of: runs are found again by the names of model and data, which may have changed since."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from accelerate import PartialState

from ftp_hf.common.files import checksum, write_text
from ftp_hf.hub.files import is_model_file
from ftp_hf.tasks.files import named_files
from ftp_hf.tasks.specs import DatasetSpec

from .config import ComparisonConfig
from .folder import telling_damage

__all__ = ["check_sources"]

_FILE = "sources.json"


def check_sources(configs: Iterable[ComparisonConfig], folder: Path) -> None:
    """
    Raise if a local model or data set is not what it was when the first runs were made in the folder of a comparison, and note
    what it is. All of their contents are read, and those of the files that a table names by their paths: of 50,000 images in 1
    GB in 10 seconds, where their sizes alone would take 5.

    Raises:
        ValueError: one has changed: finished runs would be taken for runs of what it is now. Or the note is damaged.
    """
    configs = list(configs)
    data = {spec.source: spec for each in configs for spec in _data_of(each)}
    files = {source: _by_place(Path(source), data[source].files()) for source in sorted(data)}
    files |= {
        model: _by_place(Path(model), _model_files(Path(model))) for model in sorted({each.model for each in configs})
    }
    files |= _named_in_tables(configs)
    now = {source: _contents(found) for source, found in files.items() if found}
    file = folder / _FILE
    before = _noted(file) if file.is_file() else {}
    if changed := [source for source, contents in now.items() if before.get(source, contents) != contents]:
        raise ValueError(
            f"{', '.join(changed)}: not what it was when the first runs in {folder} were made of it. Name another "
            "output_dir, or delete this one to start again"
        )
    if PartialState().is_main_process and now.keys() - before.keys():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({**before, **now}, indent=2))


def _noted(file: Path) -> dict[str, str]:
    with telling_damage(file, "delete it, if no data and no model have changed since, and it is written again"):
        if not isinstance(noted := json.loads(file.read_text(encoding="utf-8")), dict):
            raise TypeError(f"{str(noted)[:40]!r} is not an object")
    # Earlier versions noted other things, by file.
    return {source: contents for source, contents in noted.items() if isinstance(contents, str)}


def _data_of(config: ComparisonConfig) -> Iterator[DatasetSpec]:
    named = (config.train, config.validation, config.test, *config.ood, *config.retained)
    return (DatasetSpec.parse(text) for text in named if text)


def _named_in_tables(configs: Iterable[ComparisonConfig]) -> dict[str, dict[str, Path]]:
    """
    The files that local tables name by their paths, for each table and column; apart from the table, so that what earlier
    versions noted of it still holds. All of its rows, whichever of them a config keeps.
    """
    tables = {
        (spec.source, getattr(each.reading, option)): spec._replace(column=None, value=None)
        for each in configs
        for option in each.task_class.file_columns
        for spec in _data_of(each)
        if Path(spec.source).is_file()
    }
    named = dict[str, dict[str, Path]]()
    for (source, column), spec in tables.items():
        rows, _ = spec.numbered()
        if column in rows.column_names:
            named[f"{source} (the files in {column!r})"] = {
                file.as_posix(): file for file in sorted(named_files(rows, column))
            }
    return named


def _model_files(path: Path) -> list[Path]:
    """Those that make a model what it is: not the card or the results, which may be written again."""
    inside = [file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file()]
    return sorted(
        file
        for file in inside
        if is_model_file(file.relative_to(path).as_posix()) or fnmatchcase(file.name, "pytorch_model*.bin")
    )


def _by_place(source: Path, files: Iterable[Path]) -> dict[str, Path]:
    return {file.relative_to(source).as_posix(): file for file in files}


def _contents(files: Mapping[str, Path]) -> str:
    """One checksum of the names of files, and of what is in them."""
    named = "".join(f"{name} {checksum(file)}\n" for name, file in files.items())
    return f"{zlib.crc32(named.encode()):08x}"
