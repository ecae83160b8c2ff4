"""The null hypothesis: plain fine-tuning with a small learning rate does as well (Lin et al., ICLR 2026, arXiv 2509.20758)."""

import math
from collections.abc import Sequence

from ftp_hf.common.figures import is_share, metric_named, show

from .formats import points
from .measures import REFERENCE, finished_seeds
from .results import RATE, ComparedRun, ComparisonResults, MethodFacts

__all__ = ["SMALL_RATE", "has_fallen", "methods_once", "null_hypothesis", "smallest_kept", "tied", "tolerance"]

SMALL_RATE = "small-lr"
# Of metrics that are no shares of rows, relative.
_KEPT = 0.01


def tolerance(best: ComparedRun, metric: str) -> float:
    """
    How far ID validation may be below that of `best`, plain fine-tuning at its chosen rate, before it has fallen: by what the
    sample of rows leaves open, one standard error `√(p (1 − p) / n)` of a share of n rows, and at least a row; by 1 % of other
    metrics, and where the number of rows is not known.
    """
    figure, data = _figure(best, metric), best.summary.data_facts("validation")
    if not is_share(metric) or data is None or not data.size:
        return _KEPT * abs(figure)
    return max(math.sqrt(max(figure * (1 - figure), 0.0) / data.size), 1 / data.size)


def has_fallen(run: ComparedRun, best: ComparedRun, metric: str) -> bool:
    """
    Whether the ID validation of a run is worse than that of `best`, plain fine-tuning of the same seed at its chosen rate, by
    more than the [`tolerance`].
    """
    figure = _figure(run, metric)
    lost = metric_named(metric).sign * (_figure(best, metric) - figure)
    # A loss of exactly a row is not more than one, whatever its last digit says.
    return not math.isfinite(figure) or lost > tolerance(best, metric) * (1 + 1e-9)


def tied(runs: Sequence[ComparedRun], metric: str) -> list[ComparedRun]:
    """The runs of a seed that ID validation does not tell from the best of them; empty where it is known of none."""
    known = [run for run in runs if math.isfinite(_figure(run, metric))]
    best = max(known, key=lambda run: metric_named(metric).sign * _figure(run, metric), default=None)
    return [] if best is None else [run for run in known if not has_fallen(run, best, metric)]


def smallest_kept(tried: Sequence[ComparedRun], best: ComparedRun, metric: str) -> ComparedRun:
    """
    Of runs of one seed, the one with the smallest learning rate that ID validation does not tell from `best`, plain
    fine-tuning at its chosen rate.
    """
    kept = [run for run in tried if not has_fallen(run, best, metric)]
    return min(kept, key=lambda run: run.setting[RATE], default=best)


def methods_once(results: ComparisonResults) -> list[MethodFacts]:
    """All methods, without `plain` if `small-lr` is compared: that includes plain's runs."""
    repeats = any(method.name == SMALL_RATE for method in results.methods)
    return [method for method in results.methods if not (repeats and method.name == REFERENCE)]


def null_hypothesis(results: ComparisonResults) -> str:
    """
    In a sentence, which learning rates the null hypothesis was tested with, or that it was not tested; empty without a
    finished run of plain fine-tuning.
    """
    if not finished_seeds(results, REFERENCE):
        return ""
    if all(method.name != SMALL_RATE for method in results.methods):
        plain = results.method(REFERENCE)
        smallest = min(plain.sweep.get(RATE) or plain.chosen.values())
        return (
            f"Plain fine-tuning was not tried at learning rates below {smallest:g}, so that the null hypothesis, a small "
            f"learning rate does as well (arXiv 2509.20758), was not tested: add {SMALL_RATE} to the methods."
        )
    tried = [run for run in results.runs if run.method == SMALL_RATE and run.seed == results.seeds[0]]
    best = results.chosen_runs(REFERENCE)[0]
    if not tried or best.seed != results.seeds[0]:
        return ""
    return _tested(results, min(tried, key=lambda run: run.setting[RATE]), best)


def _tested(results: ComparisonResults, last: ComparedRun, best: ComparedRun) -> str:
    metric, chosen = results.metric, results.method(SMALL_RATE).chosen
    allowed = tolerance(best, metric)
    said = (
        f"The null hypothesis, a small learning rate does as well (arXiv 2509.20758), was tested with {chosen[RATE]:g}, the "
        f"smallest of the rates down to {last.setting[RATE]:g} whose ID validation is no more than "
        f"{show(allowed, metric)}{points(metric)} worse than {show(_figure(best, metric), metric)}, the best of plain "
        "fine-tuning"
    )
    if has_fallen(last, best, metric):
        return f"{said}."
    return f"{said}; ID validation had not fallen by more there: with a larger {SMALL_RATE}: most, still smaller rates are tried."


def _figure(run: ComparedRun, metric: str) -> float:
    figure = run.value("validation", metric)
    return math.nan if figure is None else figure
