"""What each stage is held to: rules on the stages before it, on the retained sets and on its own test set."""

from collections.abc import Iterable, Mapping, Sequence

from ftp_hf.common.problems import Problems
from ftp_hf.compare.evidence.stream_results import StageCheck
from ftp_hf.compare.run.rules import unchecked_rules
from ftp_hf.runs.figures import Figures, figures_of
from ftp_hf.runs.rules import Rule, check_rules

from .config import ROLL_BACK, StreamConfig
from .plan import stage_of
from .stage_outcome import StageOutcome

__all__ = ["check_stage", "rules_without_metrics"]

_OWN = "id/test"
_EARLIER = "earlier/"


def check_stage(config: StreamConfig, kept: Sequence[StageOutcome], left: StageOutcome, order: list[str]) -> StageCheck:
    """
    Whether what a stage left may take the place of the model before it. `kept` has the model before any stage, and what the
    earlier stages left that were not rolled back; `order` has all stages. Rules about stages that are not among the earlier
    ones are not checked; what is trained on all stages at once is held to none.
    """
    before, *earlier = kept
    if stage_of(left.run).joined:
        return StageCheck(left.stage)
    learnt = {_EARLIER + each.stage: _figures(each)[_EARLIER + each.stage] for each in earlier}
    now, start = (_at_stage(left.stage, learnt.keys(), _figures(model)) for model in (left, before))
    found = check_rules([rule for rule in config.rules if _has_sets(rule, now)], now, start, learnt)
    check = StageCheck(left.stage, found)
    if check.broken and config.when_broken == ROLL_BACK:
        check.rolled_back, check.row = True, left.row(order, config.first.metric)
    return check


def rules_without_metrics(rules: Sequence[Rule], stage: str, expected: Figures) -> Problems:
    """
    Problems of rules that name a metric not measured after a stage (any will do), or a number that the metric cannot have.
    `expected` has any finite figures of all that will be measured after it.
    """
    figures = _as_earlier(stage, expected)
    figures[_OWN] = figures[_EARLIER + stage]
    return unchecked_rules(rules, figures, figures, figures)


def _figures(model: StageOutcome) -> Figures:
    return _as_earlier(model.stage, figures_of(model.measured.summary.results, str(model.measured.seed)))


def _as_earlier(stage: str, figures: Figures) -> dict[str, Mapping[str, float | None]]:
    """The figures, the test set of each stage named as that of an earlier one."""
    own = {_OWN: _EARLIER + stage}
    return {own.get(name, name.replace("ood/", _EARLIER, 1)): values for name, values in figures.items()}


def _at_stage(stage: str, earlier: Iterable[str], figures: Figures) -> Figures:
    """The figures that rules may be about after a stage."""
    return {
        _OWN: figures[_EARLIER + stage],
        **{name: figures[name] for name in earlier},
        **{name: values for name, values in figures.items() if name.startswith("retained")},
    }


def _has_sets(rule: Rule, sets: Iterable[str]) -> bool:
    try:
        rule.sets(sets)
    except ValueError:
        return False
    return True
