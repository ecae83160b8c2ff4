"""Which of the runs is worth going on with."""

from ftp_hf.runs.rules import check_rules, figures_of, parse_rules

from .measures import robust_kind
from .results import ComparedRun, ComparisonResults
from .tuning import collapse
from .verdict import verdicts

__all__ = ["meets_rules", "recommended"]


def recommended(results: ComparisonResults) -> ComparedRun | None:
    """
    The run to go on with. Its method is the one with the largest clear gain in robustness over plain fine-tuning, of those
    that do not clearly lose ID and all of whose runs meet the rules. Of the runs of the method it is the one with the best
    ID validation: test and OOD data do not choose between seeds.

    Args:
        results ([`ComparisonResults`]): finished or not.

    Returns:
        [`ComparedRun`] or `None`: `None` if there is no such method, or the weights of its runs are gone.
    """
    kind = robust_kind(results)
    if kind is None or collapse(results):
        return None
    gains = {
        verdict.method: verdict.differences[kind].mean
        for verdict in verdicts(results)
        if verdict.sign(kind) > 0 and verdict.sign("id") >= 0 and meets_rules(results, verdict.method)
    }
    kept = [run for run in results.chosen_runs(max(gains, key=gains.__getitem__)) if run.folder] if gains else []
    return max(kept, key=lambda run: run.value("validation", results.metric) or 0.0, default=None)


def meets_rules(results: ComparisonResults, method: str) -> bool:
    """Whether every run of a method at its chosen setting meets every rule; so they do where there are none."""
    rules = parse_rules(results.rules, results.metric) if results.rules else []
    figures = [figures_of(run.summary.results, str(run.seed)) for run in results.chosen_runs(method)]
    return all(result.passed for of_run in figures for result in check_rules(rules, of_run, {}))
