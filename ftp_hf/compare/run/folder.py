"""What the folder of a run holds: its results, and weights and checkpoints for as long as they are needed."""

import functools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from safetensors import SafetensorError
from torch import nn

from ftp_hf.checkpoints.whole import list_checkpoints
from ftp_hf.common.files import write_text
from ftp_hf.common.records import build, plain
from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.pretrained.anchors import has_whole_weights
from ftp_hf.pretrained.loading import load_weights

from .epochs import forget_epochs

__all__ = [
    "TRAINED",
    "check_weights",
    "forget_checkpoints",
    "forget_run",
    "forget_weights",
    "has_weights",
    "load_all_weights",
    "read_run",
    "scratch",
    "telling_damage",
    "write_run",
]

TRAINED = "trained.json"
"""Written last of all that a training leaves."""


@contextmanager
def telling_damage(path: Path, remedy: str) -> Iterator[None]:
    """
    Name the damaged file or folder in the error, with a remedy such as `"delete it, and it is written again"`.

    Raises:
        ValueError: it is damaged.
    """
    try:
        yield
    except (SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy}") from error


def read_run(file: Path) -> ComparedRun:
    """
    What [`write_run`] wrote.

    Raises:
        ValueError: it is damaged.
    """
    again = "trained" if file.name == TRAINED else "evaluated"
    with telling_damage(file, f"delete it, and the run is {again} again"):
        return build(ComparedRun, json.loads(file.read_text(encoding="utf-8")))


def write_run(file: Path, run: ComparedRun) -> None:
    """Write a run whole or not at all, on the first process; the others wait."""
    if PartialState().is_main_process:
        write_text(file, json.dumps(plain(run), indent=1, ensure_ascii=False) + "\n")
    PartialState().wait_for_everyone()


def forget_run(file: Path) -> None:
    """Delete what [`write_run`] wrote, on the first process; the others wait."""
    if PartialState().is_main_process:
        file.unlink(missing_ok=True)
    PartialState().wait_for_everyone()


def scratch(runs: Path) -> Path:
    """A scratch `output_dir`, unique to this process, for Trainers that are built only to be checked."""
    return runs / f"_check-{_unique_name(os.getpid())}"


def has_weights(folder: Path) -> bool:
    """Whether the weights of a run are still there."""
    return folder.is_dir() and any(map(_holds_weights, folder.iterdir()))


def check_weights(folder: Path) -> None:
    """Raise `FileNotFoundError` if the weights of a run are not there."""
    if not has_weights(folder):
        raise FileNotFoundError(f"{folder} has no weights: delete the folder, and the run is trained again")


def load_all_weights(model: nn.Module, folder: Path) -> None:
    """
    Give a model the weights of a run.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: they are damaged.
    """
    if not has_whole_weights(folder):
        raise FileNotFoundError(
            f"{folder} has no weights of a whole model: delete the folder, and the run is trained again"
        )
    with telling_damage(folder, "delete it, and the run is trained again"):
        load_weights(model, folder)


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


@functools.cache
def _unique_name(process: int) -> str:
    """No other process on any machine has it: asked by the process, as a fork inherits what is cached."""
    return f"{uuid.uuid4().hex}-{process}"


def _holds_weights(path: Path) -> bool:
    return path.name.endswith((".safetensors", ".safetensors.index.json"))
