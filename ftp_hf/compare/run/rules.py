"""The rules in a config, or in a file beside it; those that could not be checked are refused before anything is trained."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ftp_hf.common.problems import Problems
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.runs.figures import Figures
from ftp_hf.runs.rules import Rule, check_rules, load_rules, parse_rules

__all__ = ["read_rules", "rules_in_file", "rules_without_figures", "unchecked_rules"]


def rules_in_file(folder: Path, name: str) -> list[str]:
    """
    The rules of a file that a config names, seen from the folder of the config.

    Raises:
        ValueError: it is not there, or has rules in a metric of the file's.
    """
    if not (folder / name).is_file():
        raise ValueError(f"rules must be a list of texts, or the name of a file of them in {folder}, got {name!r}")
    rules = load_rules(folder / name)
    if any(rule.metric and f":{rule.metric}" not in rule.text.replace(" ", "") for rule in rules):
        raise ValueError(
            f"rules: {name} names a metric, but the config has its own: write it into the rules, as id/test:f1 >= 0.8"
        )
    return [rule.text for rule in rules]


def read_rules(value: Any, sets: Iterable[str], metric: str | None = None) -> list[Rule]:
    """
    The rules of a config about `sets` that there will be figures on, such as `"id/test"`. `metric` is that of rules that name
    none.

    Raises:
        ValueError: it is no list of rules, or one is about another set; what else is wrong are notes of the error.
    """
    try:
        rules = parse_rules(value, metric)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rules: {error}") from error
    problems, names = Problems(), list(sets)
    for rule in rules:
        with problems.gathered(f"rules: {rule.text!r} cannot be checked: "):
            rule.sets(names)
    problems.raise_all()
    return rules


def rules_without_figures(rules: Sequence[Rule], load_model: Callable[[], Any]) -> Problems:
    """What is wrong with rules that compare with a pre-trained model which knows nothing of the task."""
    relative = [rule for rule in rules if rule.needs_pretrained]
    if not relative or not new_parameters(load_model()):
        return Problems()
    return Problems(
        f"rules: {rule.text!r} cannot be checked: heads are new, so that the pre-trained model has no figures. Write a number"
        for rule in relative
    )


def unchecked_rules(
    rules: Sequence[Rule], figures: Figures, before: Figures, learnt: Figures | None = None
) -> Problems:
    """
    Problems of rules that name a metric not measured on their sets, or a number that the metric cannot have. Any finite
    figures will do, of all that will be known of a model, of the pre-trained one and of the models of the earlier stages.
    """
    checked = check_rules(rules, figures, before, learnt or {})
    return Problems(f"rules: {result.rule!r} cannot be checked: {result.why}" for result in checked if result.why)
