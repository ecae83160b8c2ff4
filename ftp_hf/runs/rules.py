"""Rules that a model's figures have to meet: `ood/sketch >= 0.60`, `ood_mean >= pretrained - 0.02`, `forgetting <= 0.05`."""

import math
import operator
import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ftp_hf.common.figures import MINUS, is_share, main_metric, metric_named
from ftp_hf.common.yaml_files import read_yaml

from .facts import RuleResult
from .figures import Figures, figures_of, learnt_figures
from .summary import RunSummary

__all__ = [
    "NOT_FINITE",
    "Rule",
    "check_rules",
    "check_summary",
    "describe",
    "load_rules",
    "parse_rules",
]

SET = re.compile(r"(id|earlier|ood|retained|validation)(/[^:<>=]*[^:<>=\s])?")
"""The names of sets."""

NOT_FINITE = "a figure is not finite"
"""Why a rule is broken although it could be checked: the model diverged."""

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_EARLIER_WORST = "earlier_worst"
_OVER = {
    "earlier_mean": "earlier",
    _EARLIER_WORST: "earlier",
    "ood_mean": "ood",
    "ood_worst": "ood",
    "forgetting": "ood",
    "retained_mean": "retained",
    "retained_worst": "retained",
}
"""The quantities over all sets of a kind."""
_DISTANCES = ("kl", "hidden_change")
_DISTANCE = re.compile(rf"(?P<distance>{'|'.join(_DISTANCES)})/(?P<sets>(?:id|ood|retained)(?:/.+)?)")
_LARGEST_SHARE = 2.0
"""Of a metric that may be above 1, as there may be more errors than words. What is above it was meant in percent."""
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RULE = re.compile(
    rf"(?P<quantity>[^:<>=]+?)\s*(?::\s*(?P<metric>[\w./-]+)\s*)?(?P<operator>>=|<=|>|<)\s*"
    rf"(?:(?P<reference>pretrained|learnt)(?P<change>\s*[+{MINUS}-]\s*{_NUMBER})?|(?P<number>[+{MINUS}-]?{_NUMBER}))"
)
_GRAMMAR = (
    "write QUANTITY OPERATOR NUMBER, such as 'ood/sketch >= 0.60', 'ood_mean >= pretrained - 0.02' or "
    "'earlier_worst >= learnt - 0.02', where QUANTITY is "
    f"id/NAME, earlier/NAME, ood/NAME, retained/NAME, validation, {', '.join(_OVER)}, with :METRIC after it if need be, or kl/ and one of "
    f"these kinds or sets; and OPERATOR one of {' '.join(_OPERATORS)}"
)
_KEYS = ("rules", "metric")
_CALLED = {"ood": "OOD", "id": "ID"}


@dataclass(frozen=True)
class Rule:
    """
    A rule as [`parse_rules`] reads it.

    Args:
        text (`str`): as it was written.
        quantity (`str`): a set (`"ood/sketch"`), or one of the others that [`parse_rules`] lists.
        metric (`str`, *optional*): by default accuracy where it was measured, as [`RunSummary`] has it.
        operator (`str`): `">="`, `"<="`, `">"` or `"<"`.
        number (`float`): the threshold, or what is added to another model's figure.
        relative (`bool`): whether it is added to the pre-trained model's.
        learnt (`bool`, *optional*, defaults to `False`): whether it is added to the figure of the model that had just
            learned the stage.
    """

    text: str
    quantity: str
    metric: str | None
    operator: str
    number: float
    relative: bool
    learnt: bool = False

    @property
    def needs_pretrained(self) -> bool:
        """Whether it cannot be checked without the pre-trained model's figures."""
        return self.relative or self.quantity == "forgetting"

    def sets(self, among: Iterable[str]) -> list[str]:
        """
        The sets that the quantity is over, of those that there are.

        Raises:
            ValueError: none of them is of that name or kind.
        """
        names = list(among)
        of_distance = _DISTANCE.fullmatch(self.quantity)
        wanted = of_distance["sets"] if of_distance else _OVER.get(self.quantity, self.quantity)
        is_kind = of_distance is not None or self.quantity in _OVER
        kind, _, of_kind = wanted.partition("/")
        called = (wanted, kind) if of_kind == kind else (wanted,)  # among figures such a set goes by its kind alone
        found = [name for name in names if name in called or (is_kind and name.split("/")[0] == wanted)]
        if not found:
            missing = f"no set {wanted}" if "/" in wanted or not is_kind else f"no {_CALLED.get(wanted, wanted)} set"
            raise ValueError(f"there is {missing}, only {', '.join(names) or 'none at all'}")
        return found


def parse_rules(rules: Sequence[str | Rule], metric: str | None = None) -> list[Rule]:
    """
    Read rules. The quantities, each in a metric (`ood/sketch:balanced_accuracy >= 0.5`):

    | quantity | what it is |
    | --- | --- |
    | `id/NAME`, `ood/NAME`, `retained/NAME`, `validation` | the figure on a set, as [`Evaluation`] calls it |
    | `earlier/NAME` | the figure on the test set of an earlier stage, where the training is one after others |
    | `earlier_mean`, `ood_mean`, `retained_mean` | the unweighted mean over all sets of the kind |
    | `earlier_worst` | of the earlier stages the one nearest to breaking the rule, each against a figure of its own |
    | `ood_worst`, `retained_worst` | of these sets the one nearest to breaking the rule: the lowest with `>=`, the highest with `<=` |
    | `forgetting` | by how much the `ood_mean` is worse than the pre-trained model's: on model cards, "OOD mean lost" |
    | `kl/KIND`, `kl/KIND/NAME` | KL(pre-trained ‖ model) of the answers, the mean over the sets of a kind (`id`, `ood`, `retained`) or on one |
    | `hidden_change/…` | in the same way, the relative change of the last hidden states, which is measured where the head is new |

    On the right is a number, or `pretrained`, `pretrained - 0.02`, `pretrained + 0.02`, with the same quantity of the
    pre-trained model, that before any stage; or, of earlier stages, `learnt`, `learnt - 0.02`, with the figure of
    the model that had just learned the stage.

    Rules that name no metric are in `metric`; those on retained sets, which may be measured in different ways, in the main
    metric of each set.

    Raises:
        TypeError: `rules` is not a sequence of texts.
        ValueError: there is none, or one is not understood.
    """
    is_list = isinstance(rules, Collection) and not isinstance(rules, (str, Mapping))
    if not is_list or not all(isinstance(rule, (str, Rule)) for rule in rules):
        raise TypeError(f"rules must be a list of texts such as ['ood/sketch >= 0.60'], got {rules!r}")
    if not rules:
        raise ValueError("rules is empty, so every model would pass: name at least one rule")
    read = [rule if isinstance(rule, Rule) else _parse(rule) for rule in rules]
    return [
        rule if rule.quantity.startswith("retained") else replace(rule, metric=rule.metric or metric) for rule in read
    ]


def load_rules(path: str | Path) -> list[Rule]:
    """
    Read a file of rules:

        metric: accuracy  # optional; of the rules that name none
        rules:
          - id/test >= 0.9
          - ood_mean >= pretrained - 0.02

    Args:
        path (`str` or `Path`): a YAML file.

    Raises:
        OSError: it cannot be read.
        ValueError: names the file, what is wrong in it, and what is allowed.
    """
    content = read_yaml(path)
    keys = list(content) if isinstance(content, dict) else []
    if unknown := [key for key in keys if key not in _KEYS]:
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; the keys are {' and '.join(_KEYS)}")
    rules, metric = (content.get("rules"), content.get("metric")) if keys else (None, None)
    if not isinstance(rules, list):
        raise ValueError(f"{path}: rules must be a list of texts such as '- ood/sketch >= 0.60', got {rules!r}")
    if not isinstance(metric, (str, type(None))):
        raise ValueError(f"{path}: metric must be the name of a metric, such as accuracy, got {metric!r}")
    try:
        return parse_rules(rules, metric)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_rules(
    rules: Sequence[Rule], figures: Figures, pretrained: Figures, learnt: Figures = MappingProxyType({})
) -> list[RuleResult]:
    """
    Check each rule. One that cannot be checked has failed, and says why; so has one whose figure is not a number. `pretrained`
    may be empty where no rule needs it. `learnt` has, for each earlier stage (`"earlier/NAME"`), the figures of the model that
    had just learned it; a rule over all of them needs a figure on each.
    """
    return [_check(rule, figures, pretrained, learnt) for rule in rules]


def check_summary(rules: Sequence[Rule], summary: RunSummary) -> list[RuleResult]:
    """
    Check each rule on what a finished run's summary says: of the weights that are kept, and of the pre-trained model (the mean
    over its seeds, as on the card). Nothing is measured again.
    """
    before = figures_of(summary.pretrained.results) if summary.pretrained else {}
    return check_rules(rules, figures_of(summary.results, str(summary.seed)), before, learnt_figures(summary.stages))


def describe(result: RuleResult) -> str:
    """A rule and its result, in a few words."""
    if result.value is None or result.threshold is None:
        return f"{result.rule} ({result.why})"
    of = f"{result.data}: " if result.data else ""
    return f"{result.rule} ({of}it is {result.value:.4g}, against {result.threshold:.4g})"


def _parse(text: str) -> Rule:
    match = _RULE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"the rule {text!r} is not understood: {_GRAMMAR}")
    of_distance = _DISTANCE.fullmatch(match["quantity"])
    if not (SET.fullmatch(match["quantity"]) or match["quantity"] in _OVER or of_distance):
        raise ValueError(f"the rule {text!r} is about {match['quantity']!r}, which is no quantity: {_GRAMMAR}")
    if match["reference"] and match["quantity"] == "forgetting":
        raise ValueError(
            f"the rule {text!r} compares twice: forgetting is measured against the pre-trained model already, so write "
            "a number on the right"
        )
    if of_distance and (match["metric"] or match["reference"]):
        raise ValueError(
            f"the rule {text!r} compares twice: {of_distance['distance']} is a distance to the pre-trained model already, so "
            "write a number on the right, and no metric"
        )
    if match["reference"] == "learnt" and not match["quantity"].startswith("earlier"):
        raise ValueError(
            f"the rule {text!r} compares with what was learnt, but {match['quantity']} is no earlier stage: write pretrained, or "
            "a number"
        )
    number = (match["number"] or match["change"] or "0").replace(MINUS, "-")
    return Rule(
        text=" ".join(text.split()),
        quantity=match["quantity"],
        metric=of_distance["distance"] if of_distance else match["metric"],
        operator=match["operator"],
        number=float("".join(number.split())),
        relative=match["reference"] == "pretrained",
        learnt=match["reference"] == "learnt",
    )


class _Measured(NamedTuple):
    """The quantity and the threshold; where a figure is not a number, neither are they."""

    value: float
    threshold: float
    data: str | None = None


def _measure(rule: Rule, figures: Figures, pretrained: Figures, learnt: Figures) -> _Measured:
    every: Figures = {**{name: {} for name in learnt}, **figures}
    sets = rule.sets(every)
    metric = rule.metric or main_metric(name for data in sets for name in every[data])
    if metric is None:
        raise ValueError("nothing was measured")
    if rule.metric is None and any(figures.get(name) and metric not in figures[name] for name in sets):
        raise ValueError(
            f"the sets are measured in several ways: write {rule.quantity}:METRIC with one that all have, or rules for each set"
        )
    most = max(1.0, min(_LARGEST_SHARE, metric_named(metric).possible[1]))
    if is_share(metric) and abs(rule.number) > most:
        where = "in [0, 1]" if most == 1 else "where 1 means 100 %"
        raise ValueError(f"{metric} is a share {where}, not in percent: write {rule.number / 100:g}")
    if rule.learnt and not learnt:
        raise ValueError("nothing is known about earlier stages: tell the Trainer about them with note_earlier_stages")
    values = [_figure(figures, name, metric, "the model") for name in sets]
    others, whose = (learnt, "the model that learned it") if rule.learnt else (pretrained, "the pre-trained model")
    is_relative = rule.needs_pretrained or rule.learnt
    starts = [_figure(others, name, metric, whose) for name in sets] if is_relative else [0.0] * len(sets)
    if rule.quantity == _EARLIER_WORST and all(map(math.isfinite, [*values, *starts])):
        nearest = min if rule.operator in (">=", ">") else max
        value, start, name = nearest(zip(values, starts, sets, strict=True), key=lambda each: each[0] - each[1])
        return _Measured(value, start + rule.number, name.partition("/")[2])
    value, start = _over(rule, values), _over(rule, starts)
    if rule.quantity == "forgetting":
        return _Measured(metric_named(metric).sign * (start - value), rule.number)
    return _Measured(value, start + rule.number)


def _over(rule: Rule, values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return math.nan
    if rule.quantity.endswith("_worst"):
        return min(values) if rule.operator in (">=", ">") else max(values)
    return statistics.fmean(values)


def _figure(figures: Figures, name: str, metric: str, whose: str) -> float:
    if metric not in figures.get(name, {}):
        measured = ", ".join(figures.get(name, {}))
        raise ValueError(f"{whose} has no {metric} on {name}" + (f", only {measured}" if measured else ""))
    value = figures[name][metric]
    return math.nan if value is None else value


def _check(rule: Rule, figures: Figures, pretrained: Figures, learnt: Figures) -> RuleResult:
    try:
        found = _measure(rule, figures, pretrained, learnt)
    except ValueError as error:
        return RuleResult(rule.text, passed=False, why=str(error))
    if not (math.isfinite(found.value) and math.isfinite(found.threshold)):
        return RuleResult(rule.text, passed=False, why=NOT_FINITE)
    # Without what binary numbers add to 0.65 - 0.60 = 0.05.
    passed = _OPERATORS[rule.operator](round(found.value, 9), round(found.threshold, 9))
    return RuleResult(rule.text, passed, found.value, found.threshold, data=found.data)
