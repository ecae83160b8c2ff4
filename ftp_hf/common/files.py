"""Writing files so that a crash or a full disk leaves the earlier ones: beside them first, then all at once in their place."""

import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["check_folder", "checksum", "flush", "flush_folder", "move_files", "replacing", "write_text"]

_WEIGHTS = re.compile(r"(?P<stem>.+?)(-\d{5}-of-\d{5})?\.safetensors(?P<index>\.index\.json)?")
_CHUNK = 1 << 22
_MODEL, _ADAPTER = Path("config.json"), Path("adapter_config.json")
_STEMS = {_MODEL: "model", _ADAPTER: "adapter_model"}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; its file replaces `path` if the block succeeds."""
    part = path.with_name(f"_{path.name}.part")
    try:
        yield part
        flush(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, as [`replacing`] does: whole, or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_folder(option: str, folder: Path, remedy: str = "name another one") -> None:
    """
    Raise unless a folder is there, or can be made, and can be written to. The error names the `option` for it and the `remedy`.

    Raises:
        FileExistsError: it, or what it would lie in, is a file or a link to what is not there.
        PermissionError: it cannot be written to.
    """
    # Of what lies in a folder that may not be entered, Path.exists raises in Python 3.11.
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path())
    if not there.is_dir():
        found = "a file" if there.exists() else "a link to what is not there"
        raise FileExistsError(f"{option} {folder} is no folder, as {there} is {found}: {remedy}")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{option} {folder}: nothing can be written to {there}: {remedy}")


def move_files(source: Path, target: Path) -> None:
    """
    Move all files of a saved model into a folder of the same file system that may hold an earlier one: each takes its place
    whole, and weights that the earlier model had more of are removed; so is an adapter where a whole model comes, and a whole
    model where the adapter of another one does.
    """
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    weights = {name: match for name in names if (match := _WEIGHTS.fullmatch(str(name)))}
    indices = [name for name, match in weights.items() if match["index"]]
    for name in names:
        flush(source / name)
    replaced = _replaced_config(source, target)
    for name in [*indices, *replaced]:
        # Shards of two saves have the same names: without an index nobody takes them for one model. And a library that finds the
        # configs of both loads an adapter onto a model that it was not trained on.
        (target / name).unlink(missing_ok=True)
    for name in [*(name for name in names if name not in indices), *indices]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)
        flush_folder((target / name).parent)
    stems = {match["stem"] for match in weights.values()} | {_STEMS[name] for name in replaced}
    for path in target.iterdir():
        match = _WEIGHTS.fullmatch(path.name)
        if match and match["stem"] in stems and Path(path.name) not in weights:
            path.unlink()


def _replaced_config(source: Path, target: Path) -> list[Path]:
    """The config of what was saved in the target before, if it is of the other kind: of an adapter, or of a whole model."""
    model, adapter = (source / _MODEL).is_file(), (source / _ADAPTER).is_file()
    if model and not adapter:
        return [_ADAPTER]
    if adapter and not model:
        base = json.loads((source / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
        # An adapter may lie beside the model that it was trained on.
        if base and Path(base).resolve() != target.resolve():
            return [_MODEL]
    return []


def flush(path: Path) -> None:
    """Flush a file to disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def checksum(path: Path) -> str:
    """The CRC-32 of a file's contents, in hex."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return f"{crc:08x}"
