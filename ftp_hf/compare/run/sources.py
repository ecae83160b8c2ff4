"""What the runs in a folder were made of: runs are found again by the names of model and data, which may have changed since."""

import json
from collections.abc import Iterable
from pathlib import Path

from accelerate import PartialState

from ftp_hf.common.files import checksum, replacing
from ftp_hf.tasks.specs import DatasetSpec

from .config import ComparisonConfig

__all__ = ["check_sources"]

_FILE = "sources.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check_sources(configs: Iterable[ComparisonConfig], folder: Path) -> None:
    """
    Raise if a local model or data set is not what it was when the first runs were made in a folder, and note what it is.

    Args:
        configs (iterable of [`ComparisonConfig`]): name them.
        folder (`Path`): of the comparison.

    Raises:
        ValueError: one has changed: finished runs would be taken for runs of what it is now.
    """
    configs = list(configs)
    named = (text for each in configs for text in (each.train, each.validation, each.test, *each.ood, *each.retained))
    data = {DatasetSpec.parse(text).source for text in named if text}
    found = {source: _contents(Path(source)) for source in sorted(data)}
    found |= {each.model: _weights(Path(each.model)) for each in configs}
    now = {source: contents for source, contents in found.items() if contents}
    file = folder / _FILE
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if changed := [source for source, contents in now.items() if before.get(source, contents) != contents]:
        raise ValueError(
            f"{', '.join(changed)}: not what it was when the first runs in {folder} were made of it. Name another "
            "output_dir, or delete this one to begin anew"
        )
    if PartialState().is_main_process and now.keys() - before.keys():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(json.dumps({**before, **now}, indent=2), encoding="utf-8")


def _contents(path: Path) -> dict[str, str | int]:
    """The checksum of a file; the sizes of the files of a folder, which may be many. Nothing of what is not on this machine."""
    if path.is_file():
        return {path.name: checksum(path)}
    return {
        file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()
    }


def _weights(model: Path) -> dict[str, str | int]:
    return {file.name: checksum(file) for pattern in _WEIGHTS for file in sorted(model.glob(pattern))}
