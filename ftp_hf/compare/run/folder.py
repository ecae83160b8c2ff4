"""What the folder of a run holds: its results, and weights and checkpoints for as long as they are needed."""

import json
import shutil
import uuid
from pathlib import Path

from accelerate import PartialState

from ftp_hf.checkpoints.whole import list_checkpoints
from ftp_hf.common.files import replacing
from ftp_hf.common.records import build, plain
from ftp_hf.compare.evidence.results import ComparedRun

from .epochs import forget_epochs

__all__ = [
    "TRAINED",
    "forget_checkpoints",
    "forget_run",
    "forget_weights",
    "has_weights",
    "read_run",
    "scratch",
    "write_run",
]

TRAINED = "trained.json"
"""Written last of all that a training leaves."""

_PROCESS = uuid.uuid4().hex


def read_run(file: Path) -> ComparedRun:
    """What [`write_run`] wrote."""
    return build(ComparedRun, json.loads(file.read_text(encoding="utf-8")))


def write_run(file: Path, run: ComparedRun) -> None:
    """Write a run whole or not at all, on the first process; the others wait."""
    if PartialState().is_main_process:
        with replacing(file) as part:
            part.write_text(json.dumps(plain(run), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PartialState().wait_for_everyone()


def forget_run(file: Path) -> None:
    """Delete what [`write_run`] wrote, likewise."""
    if PartialState().is_main_process:
        file.unlink(missing_ok=True)
    PartialState().wait_for_everyone()


def scratch(runs: Path) -> Path:
    """Where Trainers of this process that train nothing may lie, among all runs; several may share that folder."""
    return runs / f"_check-{_PROCESS}"


def has_weights(folder: Path) -> bool:
    """Whether the weights of a run are still there."""
    return folder.is_dir() and any(map(_holds_weights, folder.iterdir()))


def forget_weights(folder: Path) -> None:
    """Delete the weights of a run, if there are any, and those of its epochs."""
    forget_epochs(folder)
    if PartialState().is_main_process and folder.is_dir():
        for path in [*filter(_holds_weights, folder.iterdir())]:
            path.unlink(missing_ok=True)


def forget_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run that has finished."""
    if PartialState().is_main_process:
        for checkpoint in list_checkpoints(folder):
            shutil.rmtree(checkpoint)


def _holds_weights(path: Path) -> bool:
    return path.name.endswith((".safetensors", ".safetensors.index.json"))
