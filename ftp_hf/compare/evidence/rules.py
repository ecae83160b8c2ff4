"""Runs of a comparison held to its rules."""

from collections.abc import Callable, Sequence

from ftp_hf.runs.facts import RuleResult
from ftp_hf.runs.figures import figures_of
from ftp_hf.runs.rules import NOT_FINITE, check_rules, parse_rules

from .results import ComparedRun, ComparisonResults

__all__ = ["holding", "meets_rules", "unchecked"]


def holding(results: ComparisonResults) -> Callable[[ComparedRun], list[RuleResult]]:
    """What becomes of each rule in a run; where there are no rules, of none."""
    rules = parse_rules(results.rules, results.metric) if results.rules else []
    before = figures_of(results.pretrained)
    return lambda run: check_rules(rules, figures_of(run.summary.results, str(run.seed)), before)


def meets_rules(results: ComparisonResults, method: str) -> bool:
    """Whether every run of a method at its chosen setting meets every rule; so they do where there are none."""
    hold = holding(results)
    return all(result.passed for run in results.chosen_runs(method) for result in hold(run))


def unchecked(results: Sequence[RuleResult]) -> str:
    """Why a rule could be checked on none of some runs; empty where it could on any, one that diverged among them."""
    reasons = [None if result.why == NOT_FINITE else result.why for result in results]
    return "" if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons)))
