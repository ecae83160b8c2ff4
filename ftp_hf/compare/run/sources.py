"""What the runs in a folder were made of: runs are found again by the names of model and data, which may have changed since."""

import hashlib
import json
from pathlib import Path

from accelerate import PartialState

from ftp_hf.common.files import replacing
from ftp_hf.tasks.specs import DatasetSpec

from .config import ComparisonConfig

__all__ = ["check_sources"]

_FILE = "sources.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check_sources(config: ComparisonConfig, folder: Path) -> None:
    """
    Raise if a local model or data set is not what it was when the first runs were made in a folder, and note what it is.

    Args:
        config ([`ComparisonConfig`]): names them.
        folder (`Path`): of the comparison.

    Raises:
        ValueError: one has changed: finished runs would be taken for runs of what it is now.
    """
    named = filter(None, (config.train, config.validation, config.test, *config.ood, *config.retained))
    found = {source: _digest(Path(source)) for source in sorted({DatasetSpec.parse(text).source for text in named})}
    found[config.model] = _digest_of_weights(Path(config.model))
    now = {source: digest for source, digest in found.items() if digest}
    file = folder / _FILE
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if changed := [source for source, digest in now.items() if before.get(source, digest) != digest]:
        raise ValueError(
            f"{', '.join(changed)}: not what it was when the first runs in {folder} were made of it. Name another "
            "output_dir, or delete this one to begin anew"
        )
    if PartialState().is_main_process and now.keys() - before.keys():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(json.dumps({**before, **now}, indent=2), encoding="utf-8")


def _digest(path: Path) -> str | None:
    """Of the contents of a file; of a folder, of the names and sizes of its files. `None` of what is not on this machine."""
    if path.is_file():
        return _digest_of([path])
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest() if files else None


def _digest_of_weights(model: Path) -> str | None:
    files = sorted(file for pattern in _WEIGHTS for file in model.glob(pattern))
    return _digest_of(files) if files else None


def _digest_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(2**20):
                digest.update(block)
    return digest.hexdigest()
