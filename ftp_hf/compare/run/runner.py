"""The runs of a comparison, each trained and evaluated once: what is finished is read back from its folder."""

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ftp_hf.common.problems import Problems
from ftp_hf.common.processes import from_first_process
from ftp_hf.compare.evidence.results import ComparedRun, Drift
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.runs.facts import PRETRAINED, Evaluation, OtherModel
from ftp_hf.runs.rules import parse_rules
from ftp_hf.runs.summary import RunSummary
from ftp_hf.tasks import Task

from .allocation import free_memory
from .averaged import AveragedRuns
from .caching import KeptAnswers
from .config import ComparisonConfig
from .data import RunData
from .derived import DerivedRuns, source_of
from .drift import FunctionDistance, measure_drift, measure_sensitivity
from .folder import forget_weights, has_weights, read_run, scratch, telling_damage, write_run
from .measuring import evaluator, expected_figures, measure
from .method_kinds import Continued, Derived, Trained
from .methods import METHODS
from .plan import Run
from .processes import make_once, working_alone
from .rules import rules_without_figures, unchecked_rules
from .trained import Progress, TrainedRuns

__all__ = ["Runner", "refused"]


class Runner:
    """
    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runs (`Path`): the folder of all runs.
        wait (`bool`, *optional*, defaults to `True`): for a run that another process is at work on. Otherwise to train or
            evaluate it raises [`Elsewhere`].

    Raises:
        ValueError: a data set is empty, lacks a column, has another label space or a single class; an argument of the
            training is not allowed.
    """

    def __init__(self, config: ComparisonConfig, runs: Path, *, wait: bool = True) -> None:
        self.config, self.runs, self.wait = config, runs, wait
        self.data = RunData(config)
        self.answers = KeptAnswers(self.data.room)
        self.trained = TrainedRuns(config, runs, self.data, wait=wait)
        self.derived = DerivedRuns(self.trained)
        self.averaged = AveragedRuns(self.trained)
        self._sensitivity: Any = None  # of the last model that was measured, which knows that of the pre-trained model

    def check(self) -> None:
        """
        Make the Trainers of each method, with each value that is to be tried, so that what they refuse is known before
        anything is trained; and warn of rows of the training data that are measured on.

        Raises:
            ValueError: as [`refused`] says; what else is wrong are notes of the error.
        """
        problems = self._unchecked_rules() if self.config.rules else Problems()
        problems += refused(self._tried(), lambda run: self._kind(run).check(run), self.runs)
        problems.raise_all()
        self.data.warn_of_known()

    def train(self, run: Run, progress: Progress = lambda _: None) -> ComparedRun:
        """
        Train a run, or go on with it, or read its record. `progress` is called with the share of the steps that are done.

        Returns:
            [`ComparedRun`]: evaluated on the ID validation data, with the weights of the best epoch; of the last with
                `load_best_model_at_end: false`.
        """
        with working_alone(self.trained.folder(run), wait=self.wait):
            return self.trained.train(run, progress)

    def evaluate(self, run: Run) -> ComparedRun:
        """
        Evaluate a trained run, or one that is computed from a trained one, on the ID validation and test data, the OOD sets
        and the corrupted ones; or read its record.
        """
        file = run.evaluation_file(self.runs, self.config)
        make_once(file, lambda: write_run(file, self._evaluated(run)), wait=self.wait)
        return read_run(file)

    def finish(self, run: Run) -> ComparedRun:
        """Train a run, where its method trains, and evaluate it. Its base must have been trained."""
        if isinstance(METHODS[run.method], Trained):
            self.train(run)
        return self.evaluate(run)

    def pretrained(self) -> list[Evaluation]:
        """
        The figures of the pre-trained model, before any training; none where it cannot do the task, because a part of it is
        new.
        """
        run = Run(PRETRAINED, {}, self.config.sweep_seed)
        file = run.evaluation_file(self.runs, self.config)
        make_once(file, lambda: self._measure_pretrained(run, file))
        with telling_damage(file, "delete it, and the pre-trained model is evaluated again"):
            return RunSummary.load(file).results

    def keep(self, run: Run) -> Path | None:
        """
        Save the weights of a chosen run that was evaluated, if they are computed and what they are computed from is there.
        Nothing is trained for it. Its folder, or `None` if its weights are gone.
        """
        folder = run.folder(self.runs, self.config)
        kind = self._kind(run)
        if isinstance(kind, DerivedRuns) and not from_first_process(has_weights(folder)) and kind.has_source(run):
            evaluator(self.trained, run, kind.load(run)).save_model()
            free_memory()
        return folder if from_first_process(has_weights(folder)) else None

    def forget_weights(self, run: Run) -> None:
        """Delete the weights of a run that was not chosen; what is known of it stays."""
        forget_weights(run.folder(self.runs, self.config))

    def _tried(self) -> Iterator[tuple[str, Run]]:
        for name, sweep in self.config.methods.items():
            if isinstance(METHODS[name], Continued):
                continue  # its Trainers are those of its base
            # Each value once is enough, in whatever combination.
            for values in itertools.zip_longest(*sweep.values()):
                setting = {
                    key: tried[0] if value is None else value
                    for (key, tried), value in zip(sweep.items(), values, strict=True)
                }
                yield name, Run(name, setting, self.config.sweep_seed)

    def _unchecked_rules(self) -> Problems:
        """What is wrong with rules that no model could be held to."""
        rules, pretrained = parse_rules(self.config.rules, self.config.metric), self.data.task.load_model()
        problems = rules_without_figures(rules, lambda: pretrained)
        distance = FunctionDistance(self.data.task, pretrained).metric
        problems += unchecked_rules(rules, expected_figures(self.data, distance), expected_figures(self.data))
        return problems

    def _measure_pretrained(self, run: Run, file: Path) -> None:
        model = self.data.task.load_model()
        is_new = bool(new_parameters(model))
        results = [] if is_new else measure(self.data, run, evaluator(self.trained, run, model)).results
        if PartialState().is_main_process:
            RunSummary(PRETRAINED, PRETRAINED, seed=run.seed, results=results).save(file)
        PartialState().wait_for_everyone()

    def _kind(self, run: Run) -> TrainedRuns | DerivedRuns:
        method = METHODS[run.method]
        if isinstance(method, Trained):
            return self.trained
        return self.derived if isinstance(method, Derived) else self.averaged

    def _evaluated(self, run: Run) -> ComparedRun:
        kind = self._kind(run)
        with self.trained.untouched(run if isinstance(kind, TrainedRuns) else source_of(run)):
            kind.keep_weights(run)
            model, record = kind.load(run), kind.record(run)
        trainer, pretrained = evaluator(self.trained, run, model), self.data.task.load_model()
        distance = FunctionDistance(self.data.task, pretrained, self.answers)
        measured = measure(self.data, run, trainer, distance, self._known(run))
        drift = self._measure_drift(run, trainer.model, pretrained)
        before = self.pretrained()
        summary = dataclasses.replace(
            record.summary,
            name=measured.name,
            results=measured.results,
            data=measured.data,
            comparisons=[OtherModel(PRETRAINED, before)] if before else [],
        )
        return dataclasses.replace(record, summary=summary, drift=drift)

    def _known(self, run: Run) -> list[Evaluation]:
        """ID validation of the weights that a training kept, where they are what it left and the task has no measure of its own."""
        method = METHODS.get(run.method)
        if not isinstance(method, Trained) or method.save or self.config.task_class.measure is not Task.measure:
            return []
        return self.trained.record(run).summary.of_kind("validation")

    def _measure_drift(self, run: Run, model: Any, pretrained: Any) -> Drift:
        merged = model.merge_and_unload() if METHODS[run.method].adapter else model
        new = new_parameters(pretrained)
        pretrained, sensitivity = pretrained.to(merged.device), None
        if rows := self._kind(run).sensitivity_rows(run):
            batch = {name: value.to(merged.device) for name, value in self.data.task.collator(rows).items()}
            sensitivity = measure_sensitivity(merged, pretrained, batch, self._sensitivity)
            self._sensitivity = sensitivity or self._sensitivity
        return measure_drift(merged, pretrained, new, sensitivity)


def refused(tried: Iterable[tuple[str, Run]], check: Callable[[Run], None], runs: Path) -> list[str]:
    """
    Why methods cannot be trained: a line for each reason, with all methods that it is the reason for. Each method has runs to
    try, of which `check` raises what is wrong.
    """
    reasons: dict[str, dict[str, None]] = {}
    for name, run in tried:
        for reason in _reasons(check, run):
            reasons.setdefault(reason, {})[name] = None
    shutil.rmtree(scratch(runs), ignore_errors=True)
    free_memory()
    return [f"methods: {', '.join(names)} cannot be trained: {reason}" for reason, names in reasons.items()]


def _reasons(check: Callable[[Run], None], run: Run) -> list[str]:
    try:
        check(run)
    except (FileNotFoundError, TypeError, ValueError) as error:
        return [str(error), *getattr(error, "__notes__", ())]
    return []
