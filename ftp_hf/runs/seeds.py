"""Runs of one method with different seeds as one summary, beside those of other methods."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

from .facts import Evaluation, OtherModel
from .summary import RunSummary

__all__ = ["combine"]

Value = TypeVar("Value")


def combine(runs: Sequence[RunSummary], comparisons: Mapping[str, Sequence[RunSummary]] | None = None) -> RunSummary:
    """
    One summary of a method over its seeds, beside other methods on the same data, by name; see [`OtherModel`] for the names
    that have a meaning. The first run is the one whose weights are kept.

    Raises:
        ValueError: the runs of a method differ in more than the seed, or were evaluated on other data.
    """
    first = runs[0]
    groups = {first.method: runs, **(comparisons or {})}
    sizes = first.sizes()
    for name, group in groups.items():
        if len({run.config_hash for run in group}) > 1:
            raise ValueError(f"the {name} runs differ in more than the seed: their mean would mean nothing")
        if len({run.seed for run in group}) < len(group):
            raise ValueError(f"two {name} runs have the same seed: they are not independent")
        for run in group:
            if run.sizes() != sizes:
                raise ValueError(
                    f"the {name} run of seed {run.seed} was evaluated on {run.sizes()}, the first run on {sizes}: they "
                    "cannot be compared. Evaluate both on the same data"
                )
    others = [
        OtherModel(name, _together(group), group[0].optimizer) for name, group in (comparisons or {}).items() if group
    ]
    commands = [command for group in groups.values() for run in group for command in run.commands]
    return dataclasses.replace(
        first,
        results=_together(runs),
        comparisons=[*first.comparisons, *others],
        commands=list(dict.fromkeys(commands)),
    )


def _together(runs: Sequence[RunSummary]) -> list[Evaluation]:
    together = []
    for result in runs[0].results:
        same = [
            other for run in runs for other in run.results if (other.data, other.kind) == (result.data, result.kind)
        ]
        together.append(
            Evaluation(
                result.data,
                result.kind,
                metrics=_by_seed([other.metrics for other in same]),
                details=_by_seed([other.details for other in same]),
            )
        )
    return together


def _by_seed(measured: Sequence[Mapping[str, Mapping[str, Value]]]) -> dict[str, dict[str, Value]]:
    """What the first of them measured, of all of them."""
    return {
        metric: {seed: value for each in measured for seed, value in each.get(metric, {}).items()}
        for metric in measured[0]
    }
