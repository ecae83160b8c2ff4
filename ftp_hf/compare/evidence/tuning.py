"""Whether a comparison is fair: what its sweeps leave open, and whether the reference learned anything."""

import math
import statistics
from collections.abc import Sequence

from ftp_hf.common.figures import Metric, metric_named, setting_text, show, together

from .measures import CURVE, REFERENCE, by_seed, chance
from .results import RATE, ComparisonResults, MethodFacts
from .small_rates import SMALL_RATE

__all__ = ["at_edge", "choose", "collapse", "has_one_learning_rate", "open_sweeps", "tied_with_chosen"]

# Beyond these there is nothing to try.
_ENDS = {"kappa": (0.0, 1.0)}
# A model that gets no further than this share of the way from chance to perfect has learned nothing.
_LEARNED = 0.1
_FEW = 3


def choose(figures: Sequence[tuple[dict[str, float], float]], metric: Metric) -> dict[str, float]:
    """
    The setting with the best ID validation figure, one that is not finite only where none is. Of equal ones it is that with
    the smallest learning rate, so that the order of a list of rates decides nothing; of several with it, the first.
    """
    return _best(figures, metric)[0]


def tied_with_chosen(results: ComparisonResults, method: MethodFacts) -> list[dict[str, float]]:
    """The other settings of a method with exactly the ID validation of the chosen one, where that is the best."""
    tried = [run for run in results.runs if run.method == method.name and run.seed == results.seeds[0]]
    figures = [(run.setting, value) for run in tried if (value := run.value("validation", results.metric)) is not None]
    best = _best([each for each in figures if math.isfinite(each[1])], metric_named(results.metric))
    return [setting for setting in best if setting != method.chosen] if method.chosen in best else []


def at_edge(results: ComparisonResults, method: MethodFacts) -> dict[str, float]:
    """
    The chosen settings that are the least or the largest of those that were tried, where there may be more beyond. For plain
    fine-tuning the smaller rates of the null hypothesis count as tried.
    """
    if method.name == CURVE:
        return {}  # its alphas are a curve with two ends
    return {
        name: value
        for name, value in method.chosen.items()
        if len(tried := _tried(results, method, name)) > 1
        and value in (min(tried), max(tried))
        and value not in _ENDS.get(name, ())
    }


def has_one_learning_rate(results: ComparisonResults, method: MethodFacts) -> bool:
    """
    Whether only one learning rate was tried, counted as in [`at_edge`]. Of another setting, one value may be all that a method
    needs.
    """
    return len(_tried(results, method, RATE)) == 1


def open_sweeps(results: ComparisonResults, methods: Sequence[str]) -> str:
    """A sentence on the sweeps of these methods that could not find their best; empty if there are none."""
    facts = [results.method(name) for name in methods]
    single = {
        each.title: {RATE: each.chosen[RATE]} for each in facts if has_one_learning_rate(results, each) and each.chosen
    }
    edges = {each.title: edge for each in facts if (edge := at_edge(results, each))}
    found = [
        *([f"a single learning rate was tried for {_named(single)}"] if single else []),
        *([f"{_named(edges)} did best at the edge of what was tried"] if edges else []),
    ]
    return f"But {', and '.join(found)}: other settings may change this." if found else ""


def collapse(results: ComparisonResults) -> str:
    """A sentence where plain fine-tuning is hardly better than guessing in distribution, or nothing is right; else empty."""
    values = list(by_seed(results, REFERENCE, "id").values())
    if not values or not (beside := _no_better_than(results, mean := statistics.fmean(values))):
        return ""
    return (
        f"{results.method(REFERENCE).title.capitalize()} has not learned the task: ID {show(mean, results.metric)}, {beside}. "
        "Nothing can be concluded from differences to it; sweep its learning rate."
    )


def _no_better_than(results: ComparisonResults, mean: float) -> str:
    """What shows that a figure is of a model that has learned nothing; empty for any other."""
    metric, guessed = metric_named(results.metric), chance(results)
    if guessed is not None and mean <= guessed + _LEARNED * (1 - guessed):
        return f"where guessing gives {show(guessed, results.metric)}"
    # A share of 0, such as the F1 of a tagger that finds no entity, is nothing, whatever guessing would give.
    nothing_right = metric.is_share and not metric.less_is_better and mean == 0
    return "nothing that it predicts is right" if nothing_right else ""


def _best(figures: Sequence[tuple[dict[str, float], float]], metric: Metric) -> list[dict[str, float]]:
    """The settings with the best figure, in the order in which one of them would be chosen."""
    best = max((metric.rank(figure) for _, figure in figures), default=None)
    return sorted(
        (each for each, figure in figures if metric.rank(figure) == best), key=lambda each: each.get(RATE, 0.0)
    )


def _tried(results: ComparisonResults, method: MethodFacts, setting: str) -> set[float]:
    same = [each for each in results.methods if {each.name, method.name} <= {REFERENCE, SMALL_RATE}] or [method]
    return {value for each in same for value in each.sweep.get(setting, [])}


def _named(settings: dict[str, dict[str, float]]) -> str:
    """`plain fine-tuning (learning_rate 0.01) and FTP (learning_rate 0.01)`; of many, how many."""
    if len(settings) > _FEW:
        return f"{next(iter(settings))} and {len(settings) - 1} others"
    return together([f"{title} ({setting_text(setting)})" for title, setting in settings.items()])
