"""Figures of a model by data set, as rules call them, and those of the models after each stage of training."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ftp_hf.common.figures import main_metric

from .facts import Evaluation, StageFacts
from .summary import RunSummary

__all__ = [
    "Ability",
    "Figures",
    "abilities",
    "figures_of",
    "learnt_figures",
    "stages_of",
]

Figures = Mapping[str, Mapping[str, float | None]]
"""Set → metric → value. A set goes by its kind and name, `"ood/sketch"`, or by its kind where that is its name."""


def figures_of(results: Iterable[Evaluation], seed: str | None = None) -> dict[str, dict[str, float | None]]:
    """Evaluations of one model or method as [`Figures`]: those of a seed, by default the mean over all seeds."""
    figures: dict[str, dict[str, float | None]] = {}
    for result in results:
        name = result.kind if result.data == result.kind else f"{result.kind}/{result.data}"
        for metric in result.metrics:
            values = result.figures(metric)
            if seed is None or seed in values:
                value = statistics.fmean(values.values()) if seed is None else values[seed]
                figures.setdefault(name, {})[metric] = value
    return figures


def stages_of(summary: RunSummary) -> list[StageFacts]:
    """The stages that a run's model was trained in; the run's own is the last."""
    return [*summary.stages, StageFacts(figures_of(summary.results, str(summary.seed)))]


def learnt_figures(stages: Iterable[StageFacts]) -> Figures:
    """What the model could do right after each stage, as `"earlier/NAME"`: a stage goes by the names of its ID test sets."""
    found = (item for stage in stages for item in stage.figures.items())
    return {f"earlier/{name.partition('/')[2]}": metrics for name, metrics in found if name.startswith("id/")}


class Ability(NamedTuple):
    """The figures of one model after another on a data set; `None` where one is not known."""

    title: str
    metric: str
    values: list[float | None]


def abilities(models: Sequence[Figures]) -> list[Ability]:
    """
    The test sets of all stages by name, whether a model's own or of an earlier stage, and the retained sets.

    Returns:
        list of [`Ability`]: each in the main metric of its data set, in the order in which the sets come up.
    """
    named = [
        {name.partition("/")[2]: metrics for name, metrics in figures.items() if name.startswith(("id/", "earlier/"))}
        | {f"retained {name[9:]}": metrics for name, metrics in figures.items() if name.startswith("retained/")}
        for figures in models
    ]
    titles = dict.fromkeys(title for figures in named for title in figures)
    found = []
    for title in sorted(titles, key=lambda title: title.startswith("retained ")):
        metric = main_metric(name for figures in named for name in figures.get(title, ())) or ""
        found.append(Ability(title, metric, [figures.get(title, {}).get(metric) for figures in named]))
    return found
