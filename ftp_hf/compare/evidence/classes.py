"""Figures of single classes, where results have them."""

import statistics
from collections.abc import Iterable

from ftp_hf.runs.facts import Evaluation

from .measures import REFERENCE, chosen_evaluations, data_sets
from .results import ComparisonResults

__all__ = ["BY_CLASS", "class_figures", "class_measure", "class_sets", "most_changed", "pretrained_classes"]

BY_CLASS = "_by_class"
"""The end of the name of what is measured of each class, among the details of an [`Evaluation`]."""

_KINDS = ("id", "ood")


def class_measure(results: ComparisonResults) -> str | None:
    """What is measured of each class, such as `"recall"`; `None` where nothing is."""
    found = (name for result in chosen_evaluations(results) for name in result.details if name.endswith(BY_CLASS))
    name = next(found, None)
    return None if name is None else name.removesuffix(BY_CLASS)


def class_sets(results: ComparisonResults) -> list[tuple[str, str]]:
    """The ID test and OOD sets on which the classes of any method were measured, as (kind, name), in their order."""
    there = {(result.kind, result.data) for result in chosen_evaluations(results) if _by_seed(result)}
    return [(kind, name) for kind in _KINDS for name in data_sets(results, kind) if (kind, name) in there]


def class_figures(results: ComparisonResults, method: str, kind: str, data: str) -> dict[str, list[float]]:
    """The figures of each class on a data set, those of a method's seeds at its chosen setting."""
    runs = results.chosen_runs(method)
    return _collected((result for run in runs for result in run.summary.results), kind, data)


def pretrained_classes(results: ComparisonResults, kind: str, data: str) -> dict[str, list[float]]:
    """The same of the pre-trained model; empty where it was not measured."""
    return _collected(results.pretrained, kind, data)


def most_changed(results: ComparisonResults, kind: str, data: str) -> list[str]:
    """
    The classes of a data set. First come those whose mean over the seeds differs most between any method and plain
    fine-tuning, or the pre-trained model where plain fine-tuning is not compared. With nothing to compare, the worst come
    first.
    """
    of_methods = {method.name: _means(class_figures(results, method.name, kind, data)) for method in results.methods}
    before = _means(pretrained_classes(results, kind, data))
    plain = of_methods.pop(REFERENCE, {})
    others = [figures for figures in of_methods.values() if figures] or [before]
    names = dict.fromkeys(name for figures in (plain, *others) for name in figures)

    def change(name: str) -> float:
        reference = (plain or before).get(name)
        there = [figures[name] for figures in others if name in figures]
        if reference is None or not there:
            return -min(there, default=reference or 0.0)
        return max(abs(value - reference) for value in there)

    return sorted(names, key=change, reverse=True)


def _means(figures: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.fmean(values) for name, values in figures.items()}


def _by_seed(result: Evaluation) -> list[dict[str, float]]:
    found = (by_seed for name, by_seed in result.details.items() if name.endswith(BY_CLASS))
    return list(next(found, {}).values())


def _collected(evaluations: Iterable[Evaluation], kind: str, data: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for result in evaluations:
        if (result.kind, result.data) == (kind, data):
            for of_seed in _by_seed(result):
                for name, value in of_seed.items():
                    found.setdefault(name, []).append(value)
    return found
