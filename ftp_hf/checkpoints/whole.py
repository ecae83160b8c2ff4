"""Checkpoints on disk: which of them are whole, and how one is written without harm to the one that it replaces."""

import json
import logging
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ftp_hf.common.files import checksum, flush, flush_folder, write_text
from ftp_hf.common.folder import CHECKPOINT, INCOMPLETE, MANIFEST, REPLACED, TRAINER_STATE

__all__ = [
    "begin_checkpoint",
    "checkpoint_at",
    "find_damage",
    "finish_checkpoint",
    "has_optimizer_state",
    "list_checkpoints",
    "newest_whole",
    "restore_replaced",
    "step_of",
]

logger = logging.getLogger(__name__)

_CHECKPOINT = re.compile(rf"{CHECKPOINT}(\d+)")


def list_checkpoints(run: Path) -> list[Path]:
    """
    The checkpoints of a run, the newest first, whole or not.

    Args:
        run (`Path`): the run's `output_dir`.

    Returns:
        `list[Path]`
    """
    folders = [path for path in run.iterdir() if path.is_dir()] if run.is_dir() else []
    found = {path: step for path in folders if (step := step_of(path)) is not None}
    return sorted(found, key=found.__getitem__, reverse=True)


def checkpoint_at(run: Path, step: int | None) -> Path:
    """Where a run has the checkpoint of a step; a path that does not exist if there is no step."""
    return run / f"{CHECKPOINT}{step}"


def step_of(checkpoint: str | Path) -> int | None:
    """The step that a checkpoint is of, by its name; `None` if it has another name."""
    match = _CHECKPOINT.fullmatch(Path(checkpoint).name)
    return None if match is None else int(match[1])


def newest_whole(candidates: list[Path]) -> Path | None:
    """The first of the checkpoints that is whole; `None` if none is."""
    return next((checkpoint for checkpoint in candidates if find_damage(checkpoint) is None), None)


def find_damage(checkpoint: Path) -> str | None:
    """
    Compare a checkpoint with the sizes and checksums that were taken when it was saved. One of a plain `Trainer`, which
    takes none, passes if it has the file that `Trainer` writes last.

    Args:
        checkpoint (`Path`): the folder.

    Returns:
        `str` or `None`: what is wrong, with the names of the files; `None` if the checkpoint is whole.
    """
    if not (checkpoint / MANIFEST).is_file():
        if not checkpoint.is_dir():
            return "there is no such folder"
        if (checkpoint / INCOMPLETE).exists():
            return f"its save was cut short ({MANIFEST} is missing)"
        return None if (checkpoint / TRAINER_STATE).is_file() else f"{TRAINER_STATE} is missing"
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda name: _find_damaged_file(checkpoint / name, name, **files[name]), files)
            return ", ".join(filter(None, found)) or None
    except (ValueError, TypeError, LookupError, AttributeError):
        return f"{MANIFEST} cannot be read"


def begin_checkpoint(checkpoint: Path) -> None:
    """
    Make the folder of a checkpoint, marked as incomplete until [`finish_checkpoint`]. If it exists and may be whole, it is kept
    aside until then.
    """
    _restore(checkpoint)
    if any((checkpoint / name).exists() for name in (MANIFEST, TRAINER_STATE)):
        checkpoint.rename(_aside(checkpoint))
    _remove(checkpoint)
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / INCOMPLETE).write_text("This checkpoint is being saved, or its save was cut short.\n")
    flush(checkpoint / INCOMPLETE)
    flush_folder(checkpoint)
    flush_folder(checkpoint.parent)


def finish_checkpoint(checkpoint: Path) -> None:
    """
    Declare a checkpoint whole, once all its files are written: their sizes and checksums go into `checksums.json`, and the
    checkpoint that it replaces is deleted.
    """
    inside = sorted(path for path in checkpoint.rglob("*") if path.name not in (MANIFEST, INCOMPLETE))
    files = [path for path in inside if path.is_file()]
    with ThreadPoolExecutor() as pool:
        sealed = zip(files, pool.map(_seal, files), strict=True)
        entries = {path.relative_to(checkpoint).as_posix(): entry for path, entry in sealed}
    for folder in [*(path for path in inside if path.is_dir()), checkpoint]:
        flush_folder(folder)
    write_text(checkpoint / MANIFEST, json.dumps({"files": entries}, indent=2) + "\n")
    (checkpoint / INCOMPLETE).unlink(missing_ok=True)
    _remove(_aside(checkpoint))


def restore_replaced(run: Path) -> None:
    """Put back the checkpoints of a run (its `output_dir`) whose replacement was cut short. Nobody may be writing there."""
    for aside in run.glob(f"{REPLACED}*"):
        _restore(run / aside.name.removeprefix(REPLACED))


def has_optimizer_state(checkpoint: Path) -> bool:
    """
    Whether `Trainer` resumes the optimizer from a checkpoint: as it decides in `_load_optimizer_and_scheduler`
    (transformers 5.18 to 5.23), where FSDP has a file or a folder of another name.

    Args:
        checkpoint (`Path`): the folder.

    Returns:
        `bool`
    """
    # Here, because it loads torch, and only a Trainer asks.
    from transformers.trainer import OPTIMIZER_NAME, OPTIMIZER_NAME_BIN, SCHEDULER_NAME  # noqa: PLC0415

    whole = [checkpoint / name for name in (OPTIMIZER_NAME, OPTIMIZER_NAME_BIN)]
    sharded = checkpoint.glob(f"*{Path(OPTIMIZER_NAME_BIN).stem}*/")
    has_optimizer = any(path.is_file() for path in whole) or any(path.is_dir() for path in sharded)
    return has_optimizer and (checkpoint / SCHEDULER_NAME).is_file()


def _aside(checkpoint: Path) -> Path:
    return checkpoint.with_name(REPLACED + checkpoint.name)


def _restore(checkpoint: Path) -> None:
    aside = _aside(checkpoint)
    if not aside.is_dir():
        return
    if (checkpoint / MANIFEST).is_file() and find_damage(checkpoint) is None:
        _remove(aside)
    else:
        _remove(checkpoint)
        aside.rename(checkpoint)
        logger.warning("The save that was to replace %s was cut short: the earlier one is back.", checkpoint)


def _remove(checkpoint: Path) -> None:
    # What is left if this is cut short must not pass for a checkpoint of a plain Trainer.
    (checkpoint / TRAINER_STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _seal(path: Path) -> dict[str, Any]:
    flush(path)
    return {"size": path.stat().st_size, "crc32": checksum(path)}


def _find_damaged_file(path: Path, name: str, *, size: int, crc32: str) -> str | None:
    try:
        if (found := path.stat().st_size) != size:
            return f"{name} has {found} bytes instead of {size}"
        return None if checksum(path) == crc32 else f"the checksum of {name} differs"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
