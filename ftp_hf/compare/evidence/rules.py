"""Runs of a comparison held to its rules."""

from collections.abc import Sequence

from ftp_hf.runs.facts import RuleResult
from ftp_hf.runs.figures import figures_of
from ftp_hf.runs.rules import NOT_FINITE, Rule, check_rules, parse_rules

from .results import ComparedRun, ComparisonResults

__all__ = ["all_meet_rules", "by_rule", "meets_rules", "unchecked"]


def by_rule(results: ComparisonResults, method: str) -> list[tuple[Rule, list[RuleResult]]]:
    """Each rule, and its results for the runs of a method at its chosen setting, by seed."""
    checked = [_check(results, run) for run in results.chosen_runs(method)]
    return [(rule, [of_run[number] for of_run in checked]) for number, rule in enumerate(_rules(results))]


def meets_rules(results: ComparisonResults, run: ComparedRun) -> bool:
    """Whether a run meets every rule; true without rules."""
    return all(result.passed for result in _check(results, run))


def all_meet_rules(results: ComparisonResults, method: str) -> bool:
    """Whether every run of a method at its chosen setting meets every rule."""
    return all(meets_rules(results, run) for run in results.chosen_runs(method))


def unchecked(results: Sequence[RuleResult]) -> str:
    """Why the rule could be checked on none of these runs; `""` if it could on at least one (a diverged run counts)."""
    reasons = [None if result.why == NOT_FINITE else result.why for result in results]
    return "" if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons)))


def _check(results: ComparisonResults, run: ComparedRun) -> list[RuleResult]:
    """The result of each rule for a run; empty without rules."""
    return check_rules(_rules(results), figures_of(run.summary.results, str(run.seed)), figures_of(results.pretrained))


def _rules(results: ComparisonResults) -> list[Rule]:
    return parse_rules(results.rules, results.metric) if results.rules else []
