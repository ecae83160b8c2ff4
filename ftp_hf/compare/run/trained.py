"""Runs that are trained: each once, from its last checkpoint on, with the weights of the best epoch, or of the last."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments, set_seed

from ftp_hf.checkpoints.whole import list_checkpoints, newest_whole
from ftp_hf.common.figures import metric_named
from ftp_hf.common.processes import from_first_process
from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.pretrained.loading import load_weights
from ftp_hf.pretrained.origin import new_parameters

from .allocation import free_memory
from .config import ComparisonConfig
from .data import RunData
from .epochs import KeepEpochs
from .folder import (
    TRAINED,
    check_weights,
    forget_checkpoints,
    forget_run,
    has_weights,
    load_all_weights,
    read_run,
    scratch,
    telling_damage,
    write_run,
)
from .method_kinds import Trained
from .methods import METHODS
from .plan import Run, averaged_epochs, method_of
from .processes import working_alone
from .trackers import tracked, tracker_arguments

__all__ = ["Progress", "TrainedRuns", "check_processes"]

Progress = Callable[[float], None]


class TrainedRuns:
    """
    The runs of methods that are [`Trained`].

    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runs (`Path`): the folder of all runs.
        data ([`RunData`]): what they are trained and chosen on.
        wait (`bool`, *optional*, defaults to `True`): as for [`Runner`].
    """

    def __init__(self, config: ComparisonConfig, runs: Path, data: RunData, *, wait: bool = True) -> None:
        self.config, self.runs, self.data, self.wait = config, runs, data, wait
        self.task = data.task

    def check(self, run: Run) -> None:
        """Make a run's Trainer, its optimizer and its scheduler, which raise what they refuse."""
        quick = partial(self.data.calibrate, rows=1)
        trainer = self.make_trainer(run, scratch(self.runs), quick)
        if trainer.args.eval_delay > (epochs := _epochs(trainer)):
            raise ValueError(
                f"training: eval_delay of {trainer.args.eval_delay:g} leaves no evaluation, as the training has "
                f"{epochs:g} epochs: lower it, or train longer"
            )
        trainer.create_optimizer()
        try:
            trainer.create_scheduler(1)
        except TypeError as error:  # which names what the function of the schedule does not take
            raise ValueError(f"training: lr_scheduler_kwargs: {error}: give what that function takes") from error

    def train(self, run: Run, progress: Progress) -> ComparedRun:
        """As [`Runner.train`]."""
        folder = self.folder(run)
        if not (folder / TRAINED).is_file():
            self._fit(run, progress)
        forget_checkpoints(folder)
        trained = self.record(run)
        check_processes(trained)
        return trained

    def keep_weights(self, run: Run) -> None:
        """Train a run again whose weights are needed now, but were forgotten when another setting was the chosen one."""
        folder = self.folder(run)
        self.train_again_unless(lambda: (folder / TRAINED).is_file() and has_weights(folder), run)

    @contextmanager
    def untouched(self, run: Run | None) -> Iterator[None]:
        """Hold the run's lock, if there is a run, so that no other process retrains it and replaces its weights."""
        with nullcontext() if run is None else working_alone(self.folder(run), wait=self.wait):
            yield

    def train_again_unless(self, is_there: Callable[[], bool], run: Run) -> None:
        """
        Train a finished run again from its start, unless what it would be trained for is there. If that is cut short, the run
        has not finished.
        """
        with working_alone(self.folder(run), wait=self.wait):
            # Asked with the lock held: a process that trains it again deletes it first.
            if from_first_process(is_there()):
                return
            forget_run(self.folder(run) / TRAINED)
            self._fit(run)
            forget_checkpoints(self.folder(run))

    def count_epochs(self, run: Run) -> int:
        """How many epochs a run is trained for, the last of them perhaps in part."""
        return math.ceil(_epochs(self.make_trainer(run, scratch(self.runs))))

    def pretrained(self, run: Run) -> nn.Module:
        """The pre-trained model, with new parameters drawn with the seed of a run."""
        set_seed(run.seed)
        model: nn.Module = self.task.load_model()
        return model

    def has_adapter(self, run: Run) -> bool:
        """Whether an adapter lies in the folder of a run, and no whole model."""
        return METHODS[run.method].adapter

    def load(self, run: Run) -> nn.Module:
        """The model of a trained run."""
        model = self.pretrained(run)
        if self.has_adapter(run):
            from peft import PeftModel  # noqa: PLC0415 - only these methods need it

            with telling_damage(self.folder(run), "delete it, and the run is trained again"):
                return PeftModel.from_pretrained(model, str(self.folder(run)))
        load_all_weights(model, self.folder(run))
        return model

    def record(self, run: Run) -> ComparedRun:
        """What its training left, evaluated on the ID validation data."""
        return read_run(self.folder(run) / TRAINED)

    def sensitivity_rows(self, run: Run) -> list[dict[str, Any]]:
        """What sensitivities are measured on: they take many forward passes, so that those of one seed have to do."""
        return self.data.sensitivity_rows if run.seed == self.config.sweep_seed else []

    def folder(self, run: Run) -> Path:
        """Where a run is kept."""
        return run.folder(self.runs, self.config)

    def start(self, run: Run, calibrate: Callable[[nn.Module], None]) -> tuple[nn.Module, set[str]]:
        """
        The model that the training of a run starts from, and the names of the parameters that are new in it. `calibrate` runs
        a model on a sample of the training inputs.
        """
        model, method = self.pretrained(run), method_of(run, Trained)
        new = new_parameters(model)
        if run.base is not None:
            load_weights(model, self.folder(run.base))  # none, where only the Trainer is checked
        if method.adapter:
            model = method.with_adapter(model, run.setting, self._adapter_options(new), calibrate)
        return model, new

    def tracked_name(self, run: Run) -> str:
        """What trackers call a run."""
        return run.tracked_name

    def own_arguments(self, run: Run) -> dict[str, Any]:  # noqa: ARG002
        """Arguments of the training that only this run has."""
        return {}

    def own_options(self, run: Run) -> dict[str, Any]:  # noqa: ARG002
        """Options of the Trainer that only this run has."""
        return {}

    def save_extras(self, run: Run, model: Any) -> None:
        """Write what a trained run leaves in its folder in addition to what its Trainer has saved there."""
        if (save := method_of(run, Trained).save) is not None:
            save(model, self.folder(run))

    def common_arguments(self, run: Run, folder: Path) -> dict[str, Any]:
        """The arguments of a training or an evaluation that all methods have in common."""
        return {
            "output_dir": str(folder),
            "seed": run.seed,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": self.config.metric,
            "greater_is_better": not metric_named(self.config.metric).less_is_better,
            "disable_tqdm": True,
            "logging_steps": 50,
            "log_level_replica": "error",
            "dataloader_pin_memory": torch.cuda.is_available(),
            **self.task.arguments(),
            **deepcopy(self.config.training),  # transformers writes into `gradient_accumulation_kwargs`
            "report_to": "none",
        }

    def common_options(self, model: nn.Module) -> dict[str, Any]:
        """The same of a Trainer of a model."""
        return {"model": model, "eval_dataset": self.data.validation, **self.task.trainer_options(model)}

    def _fit(self, run: Run, progress: Progress = lambda _: None) -> None:
        if run.base is not None:
            self.keep_weights(run.base)
        name, folder = self.tracked_name(run), self.folder(run)
        checkpoint = newest_whole(list_checkpoints(folder))
        with tracked(self.config.training, self.config.name, name, folder, resumes=checkpoint is not None):
            self._fit_from(checkpoint, run, progress, tracker_arguments(self.config.training, self.config.name, name))
        free_memory()

    def _fit_from(self, checkpoint: Path | None, run: Run, progress: Progress, trackers: dict[str, Any]) -> None:
        folder = self.folder(run)
        with self.untouched(run.base):
            if run.base is not None:
                check_weights(self.folder(run.base))
            trainer = self.make_trainer(run, folder, overrides=trackers)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Report(progress))
        trainer.add_callback(
            _CheckFigures(partial(self.task.check_measured, where=f"{run.describe()}, validation data"))
        )
        if epochs := averaged_epochs(self.config, run.method):
            trainer.add_callback(KeepEpochs(folder, epochs))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model()
        if PartialState().is_main_process:
            self.save_extras(run, trainer.model)
        summary = trainer.run_summary(run.describe())
        if checkpoint and summary.hardware:
            summary.hardware.total_seconds = None  # of the part after the interruption it would be
        finished = ComparedRun(
            run.method,
            dict(run.setting),
            run.seed,
            summary,
            trainable_parameters=sum(p.numel() for group in trainer.optimizer.param_groups for p in group["params"]),
            optimizer_bytes=_optimizer_bytes(trainer),
        )
        write_run(folder / TRAINED, finished)

    def make_trainer(
        self,
        run: Run,
        folder: Path,
        calibrate: Callable[[nn.Module], None] | None = None,
        overrides: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        """
        The Trainer of a run, in `folder`; without a base it starts with a new head. `calibrate` is as of [`start`], by default
        on as many rows as a training takes; `overrides` are arguments of the training that take the place of others.
        """
        method = method_of(run, Trained)
        model, new = self.start(run, calibrate or self.data.calibrate)
        arguments = {**self.common_arguments(run, folder), **self.own_arguments(run), **overrides}
        trainer: Any = method.make_trainer(
            run.setting,
            {"new": new, "held_out_dataset": self.data.validation},
            self.task.trainer_class,
            args=method.arguments(run.setting, arguments, self.task.arguments_class),
            train_dataset=self.data.train,
            freeze_statistics=self.config.freeze_statistics,
            **self.common_options(model),
            **self.own_options(run),
        )
        if self.config.probe_first and run.base is not None:
            trainer.note_settings(probe_first=True)
        return trainer

    def _adapter_options(self, new: set[str]) -> dict[str, Any]:
        heads = sorted({name.rpartition(".")[0] for name in new})
        return {
            "r": 8,
            "lora_alpha": 16,
            "target_modules": "all-linear",
            "modules_to_save": heads or None,
            **self.config.lora,
        }


class _Report(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Tell how far the training is."""
        self._progress(state.global_step / state.max_steps)


class _CheckFigures(TrainerCallback):
    """At the first evaluation, so that no run is finished, or resumed, whose figures are in percent."""

    def __init__(self, check: Callable[[Mapping[str, Any]], None]) -> None:
        self._check = check

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **about: Any) -> None:  # noqa: ARG002
        """Refuse what cannot be."""
        self._check(about["metrics"])


def check_processes(run: ComparedRun) -> None:
    """
    The batch of a step grows with the processes, so that runs on other numbers of them are other runs.

    Raises:
        ValueError: a run was trained on another number of them.
    """
    trained, now = (run.summary.hardware.processes if run.summary.hardware else 1), PartialState().num_processes
    if trained != now:
        raise ValueError(
            f"{run.summary.name} was trained on {trained} process{'es' * (trained > 1)}, but this comparison runs on {now}: "
            "the batches of its runs would differ. Start it as before, or give it another output_dir"
        )


def _epochs(trainer: Trainer) -> float:
    args: TrainingArguments = trainer.args
    if args.max_steps <= 0:
        return args.num_train_epochs
    return args.max_steps / math.ceil(len(trainer.get_train_dataloader()) / args.gradient_accumulation_steps)


def _optimizer_bytes(trainer: Trainer) -> int | None:
    state = getattr(getattr(trainer.optimizer, "optimizer", trainer.optimizer), "state", {})
    tensors = [value for held in state.values() for value in held.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) or None
