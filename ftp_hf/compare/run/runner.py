"""The runs of a comparison, each trained and evaluated once: what is finished is read back from its folder."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainingArguments

from ftp_hf.common.problems import Problems
from ftp_hf.common.processes import from_first_process
from ftp_hf.compare.evidence.results import ComparedRun, Drift
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.trainer.plain import PlainTrainer

from .config import ComparisonConfig
from .data import RunData
from .derived import DerivedRuns
from .drift import measure_drift
from .folder import forget_weights, has_weights, read_run, write_run
from .methods import METHODS, Trained
from .plan import Run
from .trained import Progress, TrainedRuns, free_memory

__all__ = ["Runner"]


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
        self.trained = TrainedRuns(config, runs, self.data)
        self.derived = DerivedRuns(self.trained)

    def check(self) -> None:
        """
        Make the Trainers of each method, with each value that is to be tried, so that what they refuse is known before
        anything is trained.

        Raises:
            ValueError: as the Trainers do, with the name of the method; those of other methods are notes of the error.
        """
        problems = Problems()
        for name, sweep in self.config.methods.items():
            # Each value once is enough, in whatever combination.
            for values in itertools.zip_longest(*sweep.values()):
                setting = {
                    key: tried[0] if value is None else value
                    for (key, tried), value in zip(sweep.items(), values, strict=True)
                }
                run = Run(name, setting, self.config.sweep_seed)
                try:
                    self._kind(run).check(run)
                except (TypeError, ValueError) as error:
                    problem = f"methods: {name} cannot be trained: {error}"
                    if problem not in problems:
                        problems.append(problem)
        shutil.rmtree(self.runs / "_check", ignore_errors=True)
        free_memory()
        problems.raise_all()

    def train(self, run: Run, progress: Progress = lambda _: None) -> ComparedRun:
        """
        Train a run, or go on with it, or read what became of it.

        Args:
            run ([`Run`]): to train, of a method that trains.
            progress (callable, *optional*): told the share of the steps that are done.

        Returns:
            [`ComparedRun`]: evaluated on the ID validation data, with the weights of the best epoch.
        """
        return self.trained.train(run, progress)

    def evaluate(self, run: Run) -> ComparedRun:
        """
        Evaluate a trained run, or one that is computed from a trained one, on the ID validation and test data, the OOD
        sets and the corrupted ones; or read what it came to.

        Args:
            run ([`Run`]): which, or whose base, was trained.
        """
        file = run.evaluation_file(self.runs, self.config)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_run(file, self._evaluated(run))
            free_memory()
        return read_run(file)

    def keep(self, run: Run) -> Path | None:
        """
        See to the weights of a chosen run that was evaluated: those of one that is computed are saved, so long as there is
        what they are computed from. Nothing is trained for it.

        Args:
            run ([`Run`]): at the setting that was chosen.

        Returns:
            `Path` or `None`: its folder; `None` if its weights are gone.
        """
        folder = run.folder(self.runs, self.config)
        if run.base is not None and not isinstance(METHODS[run.method], Trained):
            base = run.base.folder(self.runs, self.config)
            if from_first_process(has_weights(base) and not has_weights(folder)):
                self._trainer(run).save_model()
                free_memory()
        return folder if from_first_process(has_weights(folder)) else None

    def forget_weights(self, run: Run) -> None:
        """Delete the weights of a run that was not chosen; what is known of it stays."""
        forget_weights(run.folder(self.runs, self.config))

    def _kind(self, run: Run) -> TrainedRuns | DerivedRuns:
        return self.trained if isinstance(METHODS[run.method], Trained) else self.derived

    def _evaluated(self, run: Run) -> ComparedRun:
        kind = self._kind(run)
        kind.keep_weights(run)
        trainer = self._trainer(run)
        for facts, dataset in self.data.evaluations:
            metrics = trainer.evaluate(dataset, metric_key_prefix=f"eval_{facts.name}")
            trainer.note_evaluation(metrics, facts)
        measured = trainer.run_summary(run.describe())
        drift = self._measure_drift(run, trainer.model)
        record = kind.record(run)
        summary = dataclasses.replace(record.summary, name=measured.name, results=measured.results, data=measured.data)
        return dataclasses.replace(record, summary=summary, drift=drift)

    def _trainer(self, run: Run) -> Any:
        """A Trainer with the weights of a run, for all but training."""
        arguments = self.trained.common_arguments(run, run.folder(self.runs, self.config))
        model = self._kind(run).load(run)
        trainer = PlainTrainer(model=model, args=TrainingArguments(**arguments), **self.trained.common_options())
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _measure_drift(self, run: Run, model: Any) -> Drift:
        merged = model.merge_and_unload() if METHODS[run.method].adapter else model
        pretrained = self.data.task.load_model()
        new = new_parameters(pretrained)
        rows = self._kind(run).sensitivity_rows(run)
        batches = [self.data.task.collator(rows)] if rows else []
        on_device = [{name: value.to(merged.device) for name, value in batch.items()} for batch in batches]
        return measure_drift(merged, pretrained.to(merged.device), new, on_device)
