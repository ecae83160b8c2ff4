"""What the runs in a folder were made of: runs are found again by the names of model and data, which may have changed since."""

import json
import zlib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from accelerate import PartialState

from ftp_hf.common.files import checksum, replacing
from ftp_hf.hub.files import is_model_file
from ftp_hf.tasks.specs import DatasetSpec

from .config import ComparisonConfig

__all__ = ["check_sources"]

_FILE = "sources.json"


def check_sources(configs: Iterable[ComparisonConfig], folder: Path) -> None:
    """
    Raise if a local model or data set is not what it was when the first runs were made in a folder, and note what it is. All
    of their contents are read: of 50,000 images in 1 GB in 10 seconds, where their sizes are told in 5.

    Args:
        configs (iterable of [`ComparisonConfig`]): name them.
        folder (`Path`): of the comparison.

    Raises:
        ValueError: one has changed: finished runs would be taken for runs of what it is now.
    """
    configs = list(configs)
    named = (text for each in configs for text in (each.train, each.validation, each.test, *each.ood, *each.retained))
    data = {spec.source: spec for spec in (DatasetSpec.parse(text) for text in named if text)}
    files = {source: data[source].files() for source in sorted(data)}
    files |= {model: _model_files(Path(model)) for model in sorted({each.model for each in configs})}
    now = {source: _contents(Path(source), found) for source, found in files.items() if found}
    file = folder / _FILE
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    # Earlier versions noted other things, by file.
    before = {source: contents for source, contents in before.items() if isinstance(contents, str)}
    if changed := [source for source, contents in now.items() if before.get(source, contents) != contents]:
        raise ValueError(
            f"{', '.join(changed)}: not what it was when the first runs in {folder} were made of it. Name another "
            "output_dir, or delete this one to begin anew"
        )
    if PartialState().is_main_process and now.keys() - before.keys():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(json.dumps({**before, **now}, indent=2), encoding="utf-8")


def _model_files(path: Path) -> list[Path]:
    """Those that make a model what it is: not the card or the results, which may be written again."""
    inside = [file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file()]
    return sorted(
        file
        for file in inside
        if is_model_file(file.relative_to(path).as_posix()) or fnmatchcase(file.name, "pytorch_model*.bin")
    )


def _contents(source: Path, files: Iterable[Path]) -> str:
    """One checksum of the names of files, seen from their source, and of what is in them."""
    named = "".join(f"{file.relative_to(source).as_posix()} {checksum(file)}\n" for file in files)
    return f"{zlib.crc32(named.encode()):08x}"
