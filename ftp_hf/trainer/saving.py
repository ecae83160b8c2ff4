"""Saving a Trainer's checkpoints so that one cut short is recognised, and resuming from the newest that is whole."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from torch.distributed.fsdp import StateDictType
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import HubStrategy, rotate_checkpoints
from transformers.training_args import ParallelMode

from ftp_hf.checkpoints.lock import run_lock
from ftp_hf.checkpoints.whole import (
    begin_checkpoint,
    checkpoint_at,
    find_damage,
    finish_checkpoint,
    list_checkpoints,
    newest_whole,
    restore_replaced,
)
from ftp_hf.common.files import move_files, replacing
from ftp_hf.common.folder import CARD, MANIFEST, STAGING, TRAINER_STATE
from ftp_hf.common.host import Host
from ftp_hf.common.processes import from_all_processes
from ftp_hf.common.replaced import replaced

from .public_arguments import forget_folders

__all__ = ["CompleteSavingMixin"]

logger = logging.getLogger(__name__)

_OF_WRITING = re.compile("iostream|inline_container|StreamWriter")
"""In the RuntimeErrors that torch.save raises where a file cannot be written (torch 2.8 to 2.13)."""

Result = TypeVar("Result")


class CompleteSavingMixin(Host):
    """
    `Trainer` writes a checkpoint file by file, and resumes from the newest, also from one that a crash or a full disk
    cut short. With this mixin for any `Trainer` class a checkpoint is whole once it holds `checksums.json`; resuming
    compares it with its files, and goes back to the newest whole checkpoint. Older checkpoints and models are deleted
    or replaced only by whole ones, and two runs cannot save checkpoints in the same folder at the same time.

    A checkpoint that is pushed to be resumed from names no folder of this machine.

    With several processes, those with `args.should_save` decide, and all of them resume or stop together.
    """

    _saves_checkpoint: bool = False

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """
        As `Trainer.train`, once it is certain that the checkpoint to resume from is whole, and that no other run saves
        checkpoints in the same folder. With `resume_from_checkpoint=True` it is the newest whole one.

        Raises:
            ValueError: the checkpoint is damaged, or all are; names the files and a whole checkpoint.
            OSError: another run is training in the folder.
        """
        run = Path(self._get_output_dir(trial))
        with ExitStack() as held:
            if self.args.save_strategy != "no" or self.args.enable_jit_checkpoint:
                self._on_writers(lambda: held.enter_context(run_lock(run)))
                self._on_writers(lambda: restore_replaced(run))
            checkpoint = self._whole_checkpoint(resume_from_checkpoint)
            self._prepare_resume(Path(checkpoint) if isinstance(checkpoint, str) else None)
            finds_best = _FindsBestCheckpoint(run, checkpoint if isinstance(checkpoint, str) else None)
            self.add_callback(finds_best)
            held.callback(self.remove_callback, finds_best)
            return super().train(checkpoint, trial, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        As `Trainer.save_model`; an earlier model in the folder stays until the new one is written completely. With FSDP2
        the model is saved whole, also where checkpoints are sharded.

        Raises:
            OSError: it cannot be written; names the checkpoint that the training goes on from.
        """
        if self._saves_checkpoint or not self._only_writers_write():
            super().save_model(output_dir, _internal_call)
            if self._saves_checkpoint:
                # Only now, because training_args.bin records it: nothing is deleted before the checkpoint is whole.
                self.args.save_total_limit = None
            return
        target = Path(output_dir or self.args.output_dir)
        staging = target / STAGING
        try:
            with _naming_what_is_left(target, Path(self.args.output_dir)):
                self._prepare_staging(staging)
                with _whole_state(self.accelerator):
                    super().save_model(str(staging), _internal_call=True)
                if self.args.should_save and staging.is_dir():
                    move_files(staging, target)
        finally:
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        if self.args.push_to_hub and not _internal_call:
            # As `Trainer.save_model` does for its folder (transformers 5.18 to 5.23).
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def save_state(self) -> None:
        """As `Trainer.save_state`; the earlier file stays until the new one is written completely."""
        if self.is_world_process_zero():
            with replacing(Path(self.args.output_dir) / TRAINER_STATE) as part:
                self.state.save_to_json(str(part))

    def _prepare_resume(self, checkpoint: Path | None) -> None:
        """Called with the checkpoint that is going to be resumed from, before anything of it is read."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # `Trainer._save_checkpoint` (transformers 5.18 to 5.23) saves the model, the rest of the state, pushes the
        # checkpoint and deletes older ones; the latter two wait here until it is whole.
        run = Path(self._get_output_dir(trial))
        checkpoint = checkpoint_at(run, self.state.global_step)
        limit = self.args.save_total_limit
        with replaced(self, _saves_checkpoint=True), replaced(self.args, save_total_limit=limit):
            # A process that fails does not wait for the others, which may be waiting for it elsewhere: it ends, and the
            # launcher ends them.
            with _naming_what_is_left(checkpoint, run):
                self._on_writers(lambda: begin_checkpoint(checkpoint))
                super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            with _naming_what_is_left(checkpoint, run):
                self._on_writers(lambda: self._finish_checkpoint(checkpoint))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))
        if self.args.should_save:
            rotate_checkpoints(str(run), limit, self.state.best_model_checkpoint, use_mtime=True)

    def _finish_checkpoint(self, checkpoint: Path) -> None:
        if self.args.push_to_hub and self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            forget_folders(checkpoint / TRAINER_STATE)
        finish_checkpoint(checkpoint)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self._saves_checkpoint:
            super()._push_from_checkpoint(checkpoint_folder)

    def _whole_checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | bool | None:
        if not resume_from_checkpoint:
            return None
        if resume_from_checkpoint is not True:
            checkpoint = Path(resume_from_checkpoint)
            if damage := self._find_damage(checkpoint):
                raise ValueError(_say_what_to_resume_from(checkpoint, damage))
            return str(checkpoint)
        run = Path(self.args.output_dir)
        damaged: list[str] = []
        for checkpoint in self._on_writers(lambda: list_checkpoints(run))[0]:
            damage = self._find_damage(checkpoint)
            if damage is None:
                if damaged:
                    logger.warning("Damaged: %s. Resuming from %s.", "; ".join(damaged), checkpoint)
                return str(checkpoint)
            damaged.append(f"{checkpoint} ({damage})")
        if damaged:
            raise ValueError(
                f"every checkpoint is damaged: {'; '.join(damaged)}. Train from the start, without "
                "resume_from_checkpoint"
            )
        return True  # `Trainer` says that there is none

    def _find_damage(self, checkpoint: Path) -> str | None:
        damage = next(filter(None, self._on_writers(lambda: find_damage(checkpoint))), None)
        if damage is None and self.args.should_save and not (checkpoint / MANIFEST).is_file():
            logger.warning("%s holds no %s, so nobody can tell whether its files are whole.", checkpoint, MANIFEST)
        return damage

    def _only_writers_write(self) -> bool:
        modes = (ParallelMode.NOT_PARALLEL, ParallelMode.NOT_DISTRIBUTED, ParallelMode.DISTRIBUTED)
        return self.args.parallel_mode in modes and not self.is_deepspeed_enabled

    def _prepare_staging(self, staging: Path) -> None:
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            if (card := staging.parent / CARD).is_file():
                shutil.copy(card, staging)  # PEFT adds to the model card that it finds

    def _on_writers(self, action: Callable[[], Result]) -> list[Result]:
        """What each process that saves gets from `action`, on all processes; an error too is raised on all of them."""
        outcome: tuple[Any, Exception | None] | None = None
        if self.args.should_save:
            try:
                outcome = action(), None
            except (OSError, ValueError) as error:
                outcome = None, error
        reported = [reported for reported in from_all_processes(outcome) if reported is not None]
        for _, failure in reported:
            if failure is not None:
                raise failure
        return [result for result, _ in reported]


class _FindsBestCheckpoint(TrainerCallback):
    """
    Finds the best checkpoint beside the others when a run is resumed: its folder may have been moved, or its state names
    no folders because it was pushed to the Hub. `Trainer` forgets a checkpoint that is not where the state says.
    """

    def __init__(self, run: Path, resumed: str | None) -> None:
        self._run, self._resumed = run, resumed

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Training starts, or goes on."""
        if args.save_strategy == "no" or state.best_global_step is None or state.best_model_checkpoint is not None:
            return
        # Not that of `best_global_step`: a better evaluation may have come since, without a checkpoint.
        name = None if self._resumed is None else _best_checkpoint(Path(self._resumed))
        if name is not None and (best := self._run / name).is_dir():
            logger.info("The best checkpoint so far is %s", best)
            state.best_model_checkpoint = str(best)


def _best_checkpoint(checkpoint: Path) -> str | None:
    """The name of the folder that the state in a checkpoint calls the best."""
    state = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    return None if best is None else Path(best).name


def _whole_state(accelerator: Any) -> AbstractContextManager[None]:
    # With FSDP's sharded state dicts, which are for checkpoints, `Trainer.save_model` saves nothing.
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    return nullcontext() if plugin is None else replaced(plugin, state_dict_type=StateDictType.FULL_STATE_DICT)


@contextmanager
def _naming_what_is_left(saved: Path, run: Path) -> Iterator[None]:
    """When a checkpoint of a run or its model, in whatever folder, cannot be saved."""
    try:
        yield
    # torch and safetensors do not report a full disk as an OSError.
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and not _OF_WRITING.search(str(error)):
            raise
        listed = list_checkpoints(run)
        whole = newest_whole([path for path in listed if path != saved])
        resumed = "started again, a comparison or stream, like train(resume_from_checkpoint=True), goes on from"
        left = (
            f"{resumed} {whole}"
            if whole
            else f"{run} has no whole checkpoint; a comparison or stream that is started again repeats what is not finished"
        )
        less = (
            f"; {saved.name} can be deleted, and a training of your own takes less of it with save_total_limit and save_only_model"
            if saved in listed
            else ""
        )
        raise OSError(f"{saved} could not be saved: {error}. If the disk is full, make room{less}: {left}") from error


def _say_what_to_resume_from(checkpoint: Path, damage: str) -> str:
    listed = list_checkpoints(checkpoint.parent)
    earlier = listed[listed.index(checkpoint) + 1 :] if checkpoint in listed else listed
    whole = newest_whole(earlier)
    remedy = f"The newest whole checkpoint before it is {whole}" if whole else "No whole checkpoint is before it"
    changed = f". If you changed it yourself, delete its {MANIFEST}" if (checkpoint / MANIFEST).is_file() else ""
    return f"{checkpoint} cannot be resumed from: {damage}. {remedy}{changed}"
