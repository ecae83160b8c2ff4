"""The rules in the report of a stream: how often they were met, and which stages were rolled back."""

from ftp_hf.compare.evidence.stream_results import StreamResults, StreamRun
from ftp_hf.runs.facts import RuleResult

from .blocks import Block, Table, Text
from .tables import share_met

__all__ = ["broken_rules", "rules_met"]

_POLICY = {
    "roll_back": "A stage that breaks a rule is rolled back: the next one starts from the model before it, and after the stage the "
    "figures of that model stand in the matrix.",
    "alert": "Models that break a rule stay in use: the rules have changed nothing.",
}


def rules_met(results: StreamResults) -> list[Block]:
    """How many stages meet each rule of a stream, and how many were rolled back."""
    rows = []
    for method in results.sequential:
        checks = [check for run in results.of(method) for check in run.checks]
        by_rule = [
            [each.passed for check in checks for each in check.rules if each.rule == rule] for rule in results.rules
        ]
        rolled_back = sum(check.rolled_back for check in checks)
        rows.append([results.method(method).title, *map(share_met, by_rule), f"{rolled_back} of {len(checks)}"])
    return [
        Table(["method", *results.rules, "stages rolled back"], rows),
        Text(
            "How many stages of all orders and seeds meet a rule, of those after which it can be checked. "
            f"{_POLICY[results.when_broken or 'alert']} Broken rules are listed below."
        ),
    ]


def broken_rules(results: StreamResults) -> list[Block]:
    """Each rule that a stage broke, with the figure and the bound."""
    rows = [
        [
            results.method(run.method).title,
            _place(results, run, number),
            check.stage,
            *_rule_cells(broken),
            "rolled back" if check.rolled_back else "stays",
        ]
        for run in results.runs
        for number, check in enumerate(run.checks, 1)
        for broken in check.broken
    ]
    if not rows:
        return [Text("No stage broke a rule.")]
    return [Table(["method", "where", "stage", "rule", "figure", "bound", "the model"], rows)]


def _place(results: StreamResults, run: StreamRun, number: int) -> str:
    order = f"order {results.orders.index(run.order) + 1}, " if len(results.orders) > 1 else ""
    return f"{order}seed {run.seed}, stage {number}"


def _rule_cells(broken: RuleResult) -> list[str]:
    of = f" ({broken.data})" if broken.data else ""
    if broken.value is None or broken.threshold is None:
        return [broken.rule, broken.why or "", ""]
    return [broken.rule, f"{broken.value:.4g}{of}", f"{broken.threshold:.4g}"]
