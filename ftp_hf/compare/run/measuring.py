"""What a model comes to on all data of a comparison."""

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
    """
    A Trainer of a model, for all but training.

    Args:
        runs ([`TrainedRuns`]): which the run is one of, or was computed from.
        run ([`Run`]): whose folder and seed it has.
        model (`nn.Module`): that the run came to.
    """
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
    The figures of a Trainer's model on all data.

    Args:
        data ([`RunData`]): which.
        run ([`Run`]): gives the summary its name.
        trainer (`Trainer`): as [`evaluator`] makes it.
        distance ([`FunctionDistance`], *optional*): is measured besides, on what it can be.
        known (sequence of [`Evaluation`], *optional*): on the ID validation data, which are not measured again then.
    """
    for facts, rows, first, corrupt in data.evaluations:
        if known and facts.kind == "validation":
            trainer.note_data(facts)
            continue
        metrics = data.task.measure(trainer, rows, corrupt=corrupt)
        data.task.check_measured(metrics, f"{run.describe()}, {facts.kind} data {facts.name!r}")
        if facts.kind not in DISTANT:  # nobody asks for the classes of each corruption, and validation is known without
            metrics = {name: value for name, value in metrics.items() if not name.endswith(BY_CLASS)}
        if distance is not None and facts.kind in DISTANT:
            metrics = {**metrics, **distance.measure(trainer.model, first)}
        trainer.note_evaluation(metrics, facts)
    summary: RunSummary = trainer.run_summary(run.describe())
    return dataclasses.replace(summary, results=[*known, *summary.results])


def expected_figures(data: RunData, *distances: str) -> Figures:
    """
    What [`measure`] will find out, with zeros for figures.

    Args:
        data ([`RunData`]): which.
        distances (`str`): what a [`FunctionDistance`] measures besides, if there is one.
    """
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
    Whether a task says of each class how well it is told, of the same answers as its metrics.

    Args:
        kind (`type`): the task; one that overrides `compute_metrics` alone may have other answers.
    """
    return says_of_itself(kind, "by_class", "compute_metrics")


def _with_classes(task: Task[Any], prediction: Any) -> dict[str, Any]:
    by_class = {f"{name}{BY_CLASS}": values for name, values in task.by_class(prediction).items()}
    return {**task.compute_metrics(prediction), **by_class}
