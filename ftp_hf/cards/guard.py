"""The section of a model card on what the guard saw while the model was trained."""

from collections.abc import Sequence

from ftp_hf.common.figures import table
from ftp_hf.runs.facts import GuardCheck, RuleResult
from ftp_hf.runs.rules import describe

__all__ = ["guard_history", "guard_note"]

_MOST_ROWS = 14
_DONE = {"alert": "alert", "stop": "training stopped", "roll_back": "training stopped"}


def guard_history(checks: Sequence[GuardCheck]) -> str:
    """A row for each check, a column for each rule; empty without checks."""
    rows = [check for check in checks if check.rules]
    if not rows:
        return ""
    rules = list(dict.fromkeys(result.rule for check in rows for result in check.rules))
    every = -(-len(rows) // _MOST_ROWS)
    shown = [check for number, check in enumerate(rows, 1) if number % every == 0 or check.action or check is rows[-1]]
    return table(
        ["step", *(_title(rule, rows) for rule in rules), "action"],
        [[str(check.step), *(_cell(check, rule) for rule in rules), _action(check)] for check in shown],
        left=len(rules) + 2,
    )


def guard_note(checks: Sequence[GuardCheck], kept_step: int | None = None) -> str:
    """What the checks found, in words. The weights are kept after `kept_step`, by default the last one."""
    rows = [check for check in checks if check.rules]
    broken = [check for check in rows if check.action]
    checked = f"A guard checked these rules at {len(rows)} evaluations while the model was trained."
    if early := [check for check in rows if not check.action and not _is_met(check)]:
        checked += f" It was armed once all had been met; up to step {early[-1].step} some were not yet."
    if rows and kept_step is not None and kept_step < rows[-1].step and rows[-1].restored_step is None:
        checked += (
            f" The weights are those of step {kept_step}, the best that the Trainer found by a metric of its own."
        )
    if not broken:
        return f"{checked} {'Since then all' if early else 'All'} were met every time."
    last = broken[-1]
    reasons = "; ".join(describe(result) for result in last.rules if not result.passed)
    note = f"{checked} At {len(broken)} of them one was broken, the last time after step {last.step}: {reasons}."
    if last.restored_step is not None:
        note += (
            f" The weights are those of step {last.restored_step}, the last checkpoint that met every rule. They were "
            "chosen by figures on these data, which may flatter them."
        )
    return note


def _is_met(check: GuardCheck) -> bool:
    return all(result.passed for result in check.rules)


def _title(rule: str, checks: Sequence[GuardCheck]) -> str:
    """The rule, and its threshold where the pre-trained model's figure decides that."""
    thresholds = (result.threshold for check in checks for result in check.rules if result.rule == rule)
    threshold = next((value for value in thresholds if value is not None), None)
    return f"`{rule}`" + (f" ({threshold:.4g})" if "pretrained" in rule and threshold is not None else "")


def _cell(check: GuardCheck, rule: str) -> str:
    result = next((result for result in check.rules if result.rule == rule), None)
    if result is None:
        return ""
    return _value(result) + ("" if result.passed else ", broken" if check.action else ", not yet")


def _value(result: RuleResult) -> str:
    return "not known" if result.value is None else f"{result.value:.4g}"


def _action(check: GuardCheck) -> str:
    done = _DONE.get(check.action or "", "")
    return f"{done}, back to step {check.restored_step}" if check.restored_step is not None else done
