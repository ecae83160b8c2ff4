"""The weights after the last epochs of a run, which are kept where a method averages them."""

import os
import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerState, TrainingArguments

from ftp_hf.checkpoints.whole import checkpoint_at
from ftp_hf.common.folder import MODULES

__all__ = ["KeepEpochs", "forget_epochs", "kept_epochs"]

_FOLDER = "_epochs"
_PART = "part"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", MODULES)


class KeepEpochs(TrainerCallback):
    """
    Keep the weights, and nothing else, of the last checkpoints of a run. On most file systems they take room only once
    their checkpoint is deleted. A run that is resumed keeps the same as one that was not interrupted.

    Args:
        run (`Path`): the run's folder.
        count (`int`): how many.
    """

    def __init__(self, run: Path, count: int) -> None:
        self._run, self._count = run, count

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Forget what is trained again, and keep what the run is resumed from, if it was cut short before it was kept."""
        if state.is_world_process_zero:
            for epoch in kept_epochs(self._run):
                if int(epoch.name) > state.global_step:
                    shutil.rmtree(epoch)
            if state.global_step:
                self._keep(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Keep the newest."""
        if state.is_world_process_zero:
            self._keep(state.global_step)

    def _keep(self, step: int) -> None:
        checkpoint, epochs = checkpoint_at(self._run, step), self._run / _FOLDER
        part = epochs / _PART
        for earlier in (part, epochs / str(step)):
            shutil.rmtree(earlier, ignore_errors=True)
        part.mkdir(parents=True)
        for path in {path for pattern in _WEIGHTS for path in checkpoint.rglob(pattern)}:
            target = part / path.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
        part.rename(epochs / str(step))
        for epoch in kept_epochs(self._run)[: -self._count]:
            shutil.rmtree(epoch)


def kept_epochs(run: Path) -> list[Path]:
    """The folders with the weights after the last epochs of a run, the last one last."""
    folders = (run / _FOLDER).iterdir() if (run / _FOLDER).is_dir() else []
    return sorted((folder for folder in folders if folder.name.isdigit()), key=lambda folder: int(folder.name))


def forget_epochs(run: Path) -> None:
    """Delete what [`KeepEpochs`] kept."""
    if PartialState().is_main_process:
        shutil.rmtree(run / _FOLDER, ignore_errors=True)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # on a file system without links
        shutil.copy2(path, target)
