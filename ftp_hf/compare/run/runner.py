"""Training and evaluating the runs of a comparison, each once: what is finished is read back from its folder."""

import dataclasses
import gc
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments, set_seed

from ftp_hf.baselines import L2SPTrainerMixin, SPDTrainerMixin, interpolate
from ftp_hf.checkpoints.whole import list_checkpoints, newest_whole
from ftp_hf.compare.evidence.results import ComparedRun, Drift
from ftp_hf.pretrained.loading import load_weights
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.tasks import TextTask
from ftp_hf.tasks.classifier import compute_scores
from ftp_hf.trainer.arguments import FTPTrainingArguments
from ftp_hf.trainer.ftp import FTPTrainer
from ftp_hf.trainer.plain import PlainTrainer

from .config import ComparisonConfig
from .data import RunData
from .drift import measure_drift
from .folder import TRAINED, forget_checkpoints, forget_weights, has_weights, read_run, write_run
from .methods import METHODS, Method, make_trainer, projection_options
from .plan import Run

__all__ = ["Runner"]

Progress = Callable[[float], None]


class Runner:
    """
    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runs (`Path`): the folder of all runs.

    Raises:
        ValueError: a data set is empty, lacks a column, has another label space or a single class; an argument of the
            training is not allowed.
    """

    def __init__(self, config: ComparisonConfig, runs: Path) -> None:
        self.config, self.runs = config, runs
        self.data = RunData(config)
        self.task = self.data.task

    def check(self) -> None:
        """
        Make the Trainers of each method, with each value that is to be tried, so that what they refuse is known before
        anything is trained.

        Raises:
            ValueError: as the Trainers do, with the name of the method.
        """
        for name, sweep in self.config.methods.items():
            # Each value once is enough, in whatever combination.
            for values in itertools.zip_longest(*sweep.values()):
                setting = {
                    key: tried[0] if value is None else value
                    for (key, tried), value in zip(sweep.items(), values, strict=True)
                }
                try:
                    self._check_setting(name, setting)
                except (TypeError, ValueError) as error:
                    raise ValueError(f"methods: {name} cannot be trained: {error}") from error
        shutil.rmtree(self.runs / "_check", ignore_errors=True)
        _free_memory()

    def _check_setting(self, method: str, setting: dict[str, float]) -> None:
        if METHODS[method].derived_from is not None:
            interpolate({}, {}, setting["alpha"])
        else:
            self._make_trainer(Run(method, setting, self.config.sweep_seed), self.runs / "_check").create_optimizer()

    def train(self, run: Run, progress: Progress = lambda _: None) -> ComparedRun:
        """
        Train a run, or go on with it, or read what became of it.

        Args:
            run ([`Run`]): to train, if its method trains at all.
            progress (callable, *optional*): told the share of the steps that are done.

        Returns:
            [`ComparedRun`]: evaluated on the ID validation data, with the weights of the best epoch.
        """
        folder = run.folder(self.runs, self.config)
        if not (folder / TRAINED).is_file():
            self._fit(run, folder, progress)
        forget_checkpoints(folder)
        trained = read_run(folder / TRAINED)
        _check_processes(trained)
        return trained

    def evaluate(self, run: Run) -> ComparedRun:
        """
        Evaluate a trained run, or one that is computed from a trained one, on the ID validation and test data, the OOD
        sets and the corrupted ones; or read what it came to.

        Args:
            run ([`Run`]): which, or whose base, was trained.
        """
        folder, file = run.folder(self.runs, self.config), run.evaluation_file(self.runs, self.config)
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            self._keep_weights(run.base if METHODS[run.method].derived_from else run)
            trainer = PlainTrainer(model=self._load(run), **self._trainer_options(self._arguments(run, folder)))
            trainer.remove_callback(PrinterCallback)
            for facts, dataset in self.data.evaluations:
                metrics = trainer.evaluate(dataset, metric_key_prefix=f"eval_{facts.name}")
                trainer.note_evaluation(metrics, facts)
            measured = trainer.run_summary(run.describe())
            drift = self._measure_drift(run, trainer.model)
            known = self._trained(run)
            summary = dataclasses.replace(
                known.summary, name=measured.name, results=measured.results, data=measured.data
            )
            write_run(file, dataclasses.replace(known, summary=summary, drift=drift))
            del trainer
            _free_memory()
        return read_run(file)

    def forget_weights(self, run: Run) -> None:
        """Delete the weights of a run that was not chosen; what is known of it stays."""
        forget_weights(run.folder(self.runs, self.config))

    def _fit(self, run: Run, folder: Path, progress: Progress = lambda _: None) -> None:
        self._keep_weights(run.base)
        trainer = self._make_trainer(run, folder)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Report(progress))
        checkpoint = newest_whole(list_checkpoints(folder))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model()
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
        del trainer
        _free_memory()

    def _keep_weights(self, run: Run | None) -> None:
        """Train a run again whose weights are needed now, but were forgotten when another setting was the chosen one."""
        if run is None:
            return
        folder = run.folder(self.runs, self.config)
        if (folder / TRAINED).is_file() and not has_weights(folder):
            self._fit(run, folder)
            forget_checkpoints(folder)

    def _make_trainer(self, run: Run, folder: Path) -> Any:
        method = METHODS[run.method]
        set_seed(run.seed)
        model = self.task.load_model()
        new = new_parameters(model)
        if run.base is not None:
            load_weights(model, run.base.folder(self.runs, self.config))
        trained = self._with_adapter(model, new) if method.adapter else model
        return make_trainer(
            method,
            run.setting,
            new=new,
            held_out=self.data.validation,
            model=trained,
            train_dataset=self.data.train,
            **self._trainer_options(self._arguments(run, folder)),
        )

    def _trainer_options(self, arguments: TrainingArguments) -> dict[str, Any]:
        return {
            "args": arguments,
            "eval_dataset": self.data.validation,
            "data_collator": self.task.collator,
            "processing_class": self.task.processor,
            "compute_metrics": compute_scores,
        }

    def _arguments(self, run: Run, folder: Path) -> TrainingArguments:
        method = METHODS[run.method]
        kind = FTPTrainingArguments if issubclass(method.trainer, FTPTrainer) else TrainingArguments
        training = {
            "logging_steps": 50,
            "log_level_replica": "error",
            "dataloader_pin_memory": torch.cuda.is_available(),
            **self.config.training,
        }
        if issubclass(method.trainer, (L2SPTrainerMixin, SPDTrainerMixin)):
            training["weight_decay"] = 0.0  # these methods take its place
        if "learning_rate" in run.setting:
            training["learning_rate"] = run.setting["learning_rate"]
        return kind(
            output_dir=str(folder),
            seed=run.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model=self.config.metric,
            greater_is_better=True,
            remove_unused_columns=isinstance(self.task, TextTask),
            report_to="none",
            disable_tqdm=True,
            **projection_options(method, run.setting),
            **training,
        )

    def _with_adapter(self, model: nn.Module, new: set[str]) -> nn.Module:
        from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - only these methods need it

        heads = sorted({name.rpartition(".")[0] for name in new})
        options = {
            "r": 8,
            "lora_alpha": 16,
            "target_modules": "all-linear",
            "modules_to_save": heads,
            **self.config.lora,
        }
        return get_peft_model(model, LoraConfig(**options))

    def _load(self, run: Run) -> nn.Module:
        set_seed(run.seed)
        model = self.task.load_model()
        method = METHODS[run.method]
        if method.derived_from is None:
            return self._load_trained(model, method, run.folder(self.runs, self.config))
        if run.base is None:
            raise ValueError(f"{run.describe()} is computed from a run of {method.derived_from!r}: name it as base")
        start, new = _copied_state(model), new_parameters(model)
        load_weights(model, run.base.folder(self.runs, self.config))
        model.load_state_dict(interpolate(start, _copied_state(model), run.setting["alpha"], new=new))
        return model

    def _load_trained(self, model: nn.Module, method: Method, folder: Path) -> nn.Module:
        if method.adapter:
            from peft import PeftModel  # noqa: PLC0415

            return PeftModel.from_pretrained(model, str(folder))
        load_weights(model, folder)
        return model

    def _measure_drift(self, run: Run, model: Any) -> Drift:
        merged = model.merge_and_unload() if METHODS[run.method].adapter else model
        pretrained = self.task.load_model()
        new = new_parameters(pretrained)
        # Sensitivities take many forward passes: those of one seed have to do.
        measured = run.seed == self.config.sweep_seed and METHODS[run.method].derived_from is None
        batches = [self.task.collator(self.data.sensitivity_rows())] if measured else []
        on_device = [{name: value.to(merged.device) for name, value in batch.items()} for batch in batches]
        return measure_drift(merged, pretrained.to(merged.device), new, on_device)

    def _trained(self, run: Run) -> ComparedRun:
        if METHODS[run.method].derived_from is None or run.base is None:
            return read_run(run.folder(self.runs, self.config) / TRAINED)
        base = read_run(run.base.folder(self.runs, self.config) / TRAINED)
        summary = dataclasses.replace(base.summary, method=run.method, log=[], hardware=None, projection=None)
        return ComparedRun(run.method, dict(run.setting), run.seed, summary, trainable_parameters=0)


class _Report(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Tell how far the training is."""
        self._progress(state.global_step / state.max_steps)


def _copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _check_processes(run: ComparedRun) -> None:
    """The batch of a step grows with the processes, so that runs on other numbers of them are other runs."""
    trained, now = (run.summary.hardware.processes if run.summary.hardware else 1), PartialState().num_processes
    if trained != now:
        raise ValueError(
            f"{run.summary.name} was trained on {trained} process{'es' * (trained > 1)}, but this comparison runs on {now}: "
            "the batches of its runs would differ. Start it as before, or give it another output_dir"
        )


def _optimizer_bytes(trainer: Trainer) -> int | None:
    state = getattr(getattr(trainer.optimizer, "optimizer", trainer.optimizer), "state", {})
    tensors = [value for held in state.values() for value in held.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) or None


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
