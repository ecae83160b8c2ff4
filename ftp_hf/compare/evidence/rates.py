"""What a learning rate or a length costs: the comparison at each of them that was evaluated."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .measures import finished_seeds
from .results import RATE, ComparedRun, ComparisonResults
from .rules import all_meet_rules, meets_rules
from .small_rates import methods_once, tied

__all__ = [
    "at_lengths",
    "at_lengths_and_rates",
    "at_rates",
    "at_settings",
    "epochs",
    "safe_among",
    "safe_rates",
    "unwarned",
    "what_is_safe",
]

_LENGTH = "num_train_epochs"


def at_rates(results: ComparisonResults) -> Mapping[float, ComparisonResults]:
    """
    The comparison at each learning rate, in ascending order: the methods that were evaluated there, with their other settings
    as chosen. Empty unless a method was evaluated at several.
    """
    return _at_each(results, RATE)


def at_lengths(results: ComparisonResults) -> Mapping[float | None, ComparisonResults]:
    """
    The comparison at each length of the training in epochs, as in [`at_rates`]; `{None: results}` unless a method was
    evaluated at several.
    """
    return _at_each(results, _LENGTH) or {None: results}


def at_lengths_and_rates(results: ComparisonResults) -> Mapping[float | None, Mapping[float, ComparisonResults]]:
    """The comparison at each length, and there at each learning rate; empty unless a method was evaluated at several."""
    found = {length: _evaluated(at_length, RATE) for length, at_length in at_lengths(results).items()}
    found = {length: rates for length, rates in found.items() if rates}
    return found if _repeats(there for rates in found.values() for there in rates.values()) else {}


def at_settings(results: ComparisonResults) -> list[tuple[float | None, float, ComparisonResults]]:
    """Each length and learning rate, as [`at_lengths_and_rates`] has them, with the comparison there."""
    return [(length, rate, at) for length, rates in at_lengths_and_rates(results).items() for rate, at in rates.items()]


def _at_each(results: ComparisonResults, setting: str) -> Mapping[Any, ComparisonResults]:
    evaluated = _evaluated(results, setting)
    return evaluated if _repeats(evaluated.values()) else {}


def _evaluated(results: ComparisonResults, setting: str) -> Mapping[Any, ComparisonResults]:
    values = sorted({run.setting[setting] for run in results.runs if setting in run.setting})
    each = {value: _at(results, setting, value) for value in values}
    return {value: found for value, found in each.items() if found.methods}


def _repeats(comparisons: Iterable[ComparisonResults]) -> bool:
    """Whether a method is in several of these comparisons."""
    counted = [method.name for found in comparisons for method in found.methods]
    return len(counted) > len(set(counted))


def _at(results: ComparisonResults, setting: str, value: float) -> ComparisonResults:
    """The comparison at one value of a setting, of the methods that were evaluated there."""
    moved = [
        dataclasses.replace(method, chosen={**method.chosen, setting: value})
        for method in results.methods
        if setting in method.chosen
    ]
    found = dataclasses.replace(results, methods=moved)
    return dataclasses.replace(found, methods=[each for each in moved if finished_seeds(found, each.name)])


def safe_rates(results: ComparisonResults) -> dict[str, list[float]]:
    """
    The title of each method that was evaluated at several settings, and the length where there are several → the learning rates
    at which all of its runs meet all rules.
    """
    lengths = at_lengths_and_rates(results)
    counted = Counter(method.name for rates in lengths.values() for there in rates.values() for method in there.methods)
    return {
        method.title if length is None else f"{method.title} at {epochs(length)}": safe_among(rates, method.name)
        for method in results.methods
        for length, rates in lengths.items()
        if counted[method.name] > 1 and any(finished_seeds(there, method.name) for there in rates.values())
    }


def safe_among(rates: Mapping[float, ComparisonResults], method: str) -> list[float]:
    """The learning rates at which a method was evaluated and all of its runs meet all rules."""
    return [rate for rate, there in rates.items() if finished_seeds(there, method) and all_meet_rules(there, method)]


def unwarned(results: ComparisonResults) -> tuple[int, int]:
    """
    Of the runs that ID validation does not tell from the best of their method and seed, how many break a rule; and how many
    such runs there are.
    """
    by_choice: dict[tuple[str, int], list[ComparedRun]] = {}
    once = {method.name for method in methods_once(results)}
    for _, _, found in at_settings(results):
        for name in (method.name for method in found.methods if method.name in once):
            for run in found.chosen_runs(name):
                by_choice.setdefault((name, run.seed), []).append(run)
    open_runs = [run for runs in by_choice.values() if len(runs) > 1 for run in tied(runs, results.metric)]
    return sum(not meets_rules(results, run) for run in open_runs), len(open_runs)


def what_is_safe(results: ComparisonResults) -> str:
    """
    In words: the rates at which all rules are met, and how often ID validation does not warn of a broken one; empty without
    rules.
    """
    safe = safe_rates(results) if results.rules else {}
    if not safe:
        return ""
    said = "; ".join(f"{where}, {', '.join(f'{rate:g}' for rate in rates) or 'none'}" for where, rates in safe.items())
    broken, count = unwarned(results)
    found = f"{broken} break{'s' * (broken == 1)} a rule: it does not warn of that, but a guard with these rules does"
    return (
        f"Rates at which every seed meets all rules: {said}. Of the {count} runs that ID validation does not tell from the best of "
        f"their method and seed, {found if broken else 'none breaks a rule'}."
    )


def epochs(length: float) -> str:
    """`"1 epoch"`, `"3 epochs"`."""
    return f"{length:g} epoch{'s' * (length != 1)}"
