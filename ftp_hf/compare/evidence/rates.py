"""What a learning rate costs: a comparison as it would be at each rate that was evaluated."""

import dataclasses
from collections.abc import Mapping

from ftp_hf.runs.figures import figures_of
from ftp_hf.runs.rules import check_rules, parse_rules

from .measures import finished_seeds
from .results import ComparisonResults

__all__ = ["at_rates", "rules_met"]

_RATE = "learning_rate"


def at_rates(results: ComparisonResults) -> Mapping[float, ComparisonResults]:
    """
    The comparison at each learning rate, in their order: of the methods that were evaluated there, with their other settings
    as chosen. Empty unless a method was evaluated at several.

    Args:
        results ([`ComparisonResults`]): finished or not.
    """
    rates = sorted({run.setting[_RATE] for run in results.runs if _RATE in run.setting})
    each = {rate: at_rate(results, rate) for rate in rates}
    evaluated = {rate: found for rate, found in each.items() if found.methods}
    counted = [method.name for found in evaluated.values() for method in found.methods]
    return evaluated if len(counted) > len(set(counted)) else {}


def at_rate(results: ComparisonResults, rate: float) -> ComparisonResults:
    """The comparison at one learning rate, of the methods that were evaluated there."""
    moved = [
        dataclasses.replace(method, chosen={**method.chosen, _RATE: rate})
        for method in results.methods
        if _RATE in method.chosen
    ]
    found = dataclasses.replace(results, methods=moved)
    return dataclasses.replace(found, methods=[each for each in moved if finished_seeds(found, each.name)])


def rules_met(results: ComparisonResults, method: str) -> tuple[int, int]:
    """How many runs of a method meet all rules of its comparison, and of how many."""
    rules, before = parse_rules(results.rules, results.metric), figures_of(results.pretrained)
    runs = results.chosen_runs(method)
    passed = (check_rules(rules, figures_of(run.summary.results, str(run.seed)), before) for run in runs)
    return sum(all(result.passed for result in of_run) for of_run in passed), len(runs)
