"""The figures of a model on all data of a comparison."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

from transformers import PrinterCallback

from ftp_hf.compare.evidence.classes import BY_CLASS
from ftp_hf.runs.facts import Evaluation
from ftp_hf.runs.figures import Figures, figures_of
from ftp_hf.runs.summary import RunSummary
from ftp_hf.tasks import Task
from ftp_hf.tasks.task import says_of_itself
from ftp_hf.trainer.plain import plain_trainer

from .data import RunData
from .drift import DISTANT, FunctionDistance
from .plan import Run
from .trained import TrainedRuns

__all__ = ["evaluator", "expected_figures", "has_classes", "measure"]


def evaluator(runs: TrainedRuns, run: Run, model: Any) -> Any:
    """A Trainer that only evaluates: of the model of a run, with the run's folder and seed."""
    task = runs.task
    arguments = runs.common_arguments(run, runs.folder(run))
    trainer: Any = plain_trainer(task.trainer_class)(
        args=task.arguments_class(**arguments), **runs.common_options(model)
    )
    trainer.remove_callback(PrinterCallback)
    if has_classes(type(task)):
        trainer.compute_metrics = partial(_with_classes, task)
    return trainer


def measure(
    data: RunData, run: Run, trainer: Any, distance: FunctionDistance | None = None, known: Sequence[Evaluation] = ()
) -> RunSummary:
    """
    The figures on all data of the model of a Trainer that [`evaluator`] made. Those on the ID validation data
    that are `known` are not measured again. `distance` is measured too, where the data allow it.
    """
    for facts, rows, first, corrupt in data.evaluations:
        if known and facts.kind == "validation":
            trainer.note_data(facts)
            continue
        metrics = data.task.measure(trainer, rows, corrupt=corrupt)
        data.task.check_measured(metrics, f"{run.describe()}, {facts.kind} data {facts.name!r}")
        if facts.kind not in DISTANT:  # reports show no classes of corruptions, and the known validation has none
            metrics = {name: value for name, value in metrics.items() if not name.endswith(BY_CLASS)}
        if distance is not None and facts.kind in DISTANT:
            metrics = {**metrics, **distance.measure(trainer.model, first)}
        trainer.note_evaluation(metrics, facts)
    summary: RunSummary = trainer.run_summary(run.describe())
    return dataclasses.replace(summary, results=[*known, *summary.results])


def expected_figures(data: RunData, *distances: str) -> Figures:
    """What [`measure`] will find, with zeros for figures; `distances` are the metrics of its [`FunctionDistance`]."""
    metrics_of = data.task.measured_on
    return figures_of(
        Evaluation(
            facts.name,
            facts.kind,
            {metric: {"": 0.0} for metric in (*metrics_of(rows), *distances * (facts.kind in DISTANT))},
        )
        for facts, rows, _, _ in data.evaluations
    )


def has_classes(kind: type[Task[Any]]) -> bool:
    """
    Whether a task has an accuracy per class of the same answers as its metrics: one that overrides `compute_metrics` alone may
    have other answers.
    """
    return says_of_itself(kind, "by_class", "compute_metrics")


def _with_classes(task: Task[Any], prediction: Any) -> dict[str, Any]:
    by_class = {f"{name}{BY_CLASS}": values for name, values in task.by_class(prediction).items()}
    return {**task.compute_metrics(prediction), **by_class}
