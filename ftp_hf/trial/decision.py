"""What a comparison says about the decision: benefit, cost, risk, what the rules watch, and where the weights are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftp_hf.common.figures import duration, mean_and_sd, metric_named, setting_text, show, size
from ftp_hf.common.files import write_text
from ftp_hf.compare.evidence.differences import cost
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import (
    REFERENCE,
    by_seed,
    data_sets,
    diverged,
    finished_seeds,
    metric_of,
    pretrained_figure,
    tested,
)
from ftp_hf.compare.evidence.recommendation import recommended
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.compare.evidence.rules import by_rule, unchecked
from ftp_hf.compare.evidence.small_rates import SMALL_RATE
from ftp_hf.compare.evidence.statistics import LEAST_SEEDS
from ftp_hf.compare.evidence.tuning import at_edge, collapse, has_one_learning_rate
from ftp_hf.compare.evidence.verdict import Verdict, verdicts
from ftp_hf.compare.report.weights import RULES

from .pages import COMPARISON, DECISION, language_of, render, with_figures

__all__ = ["write_decision"]

_FIGURES = "figures.md"
_FEW_ROWS = 100
"""A share of so few rows is known to no better than 10 points (twice its standard error)."""


@dataclass(frozen=True)
class Benefit:
    """What was measured on one kind of data, as it is printed."""

    kind: str
    """As [`tested`] has it."""
    metric: str
    less_is_better: bool
    before: str
    plain: str
    ours: str
    difference: str
    sign: int
    """1 for a clear gain over plain fine-tuning, -1 for a clear loss, 0 for what the seeds do not tell apart."""


def write_decision(folder: Path) -> Path:
    """
    Fill the page for the decision of a trial, `decision.md`, from its comparison in `comparison/`; what a person wrote around
    the figures stays.

    Raises:
        FileNotFoundError: there is no page, or no finished comparison.
        ValueError: the comparison has nothing but plain fine-tuning, or nothing beside it; or the page has lost its marks.
    """
    file = folder / DECISION
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: name the folder that `ftp-hf trial init` made")
    page = file.read_text(encoding="utf-8")
    language = language_of(page)
    results = ComparisonResults.load(folder / COMPARISON)
    text = with_figures(page, render(language, _FIGURES, **facts_of(results), folder=folder))
    write_text(file, text)
    return file


def facts_of(results: ComparisonResults) -> dict[str, Any]:
    """What the page says, of the recommended method, or else of the first with FTP, or else of the first beside plain."""
    judged = {verdict.method: verdict for verdict in verdicts(results) if verdict.seeds}
    if not judged:
        raise ValueError(
            "the comparison has no finished run of plain fine-tuning and of another method: add both to its methods"
        )
    best = recommended(results)
    projected = (name for name in judged if any(run.summary.projection for run in results.chosen_runs(name)))
    name = best.method if best else next(projected, next(iter(judged)))
    verdict = judged[name]
    benefits = [_benefit(results, verdict, kind) for kind in tested(results) if kind in verdict.differences]
    return {
        "method": verdict.title,
        "setting": setting_text(results.method(name).chosen),
        "is_recommended": best is not None,
        "weights": f"{COMPARISON}/{best.folder}" if best else f"{COMPARISON}/runs/RUN",
        "seeds": verdict.seeds,
        "benefits": benefits,
        "costs": _costs(results, name),
        "rules": _rules(results, name),
        "rules_file": f"{COMPARISON}/{RULES}",
        "unchecked": _unchecked(results, name),
        "doubts": _doubts(results, name, benefits),
    }


def _benefit(results: ComparisonResults, verdict: Verdict, kind: str) -> Benefit:
    metric = metric_of(results, kind)
    before = pretrained_figure(results, kind)
    plain, ours = (by_seed(results, method, kind) for method in (REFERENCE, verdict.method))
    return Benefit(
        kind,
        metric.replace("_", " "),
        metric_named(metric).less_is_better,
        "–" if before is None else show(before, metric),
        mean_and_sd(plain.values(), metric),
        mean_and_sd(ours.values(), metric),
        difference(verdict.differences[kind], metric),
        verdict.sign(kind),
    )


def _costs(results: ComparisonResults, method: str) -> dict[str, str]:
    """What one training took with plain fine-tuning and with the method, and all runs together, where it is known."""
    found: dict[str, str] = {}
    for name, known in ((REFERENCE, "plain"), (method, "ours")):
        seconds, memory = cost(results, name, "total_seconds"), cost(results, name, "peak_memory_bytes")
        found[f"{known}_time"] = duration(seconds.mean) if seconds else "–"
        found[f"{known}_memory"] = size(memory.mean) if memory else "–"
    # Runs that are another method's as well are counted once.
    taken = {
        (run.summary.name, run.seed): run.summary.hardware.total_seconds or 0.0
        for run in results.runs
        if run.summary.hardware
    }
    total = sum(taken.values())
    return {**found, "total": duration(total) if total else "–"}


def _rules(results: ComparisonResults, method: str) -> list[tuple[str, int, int]]:
    """Each rule with how many runs of the method meet it, and of how many."""
    checked = by_rule(results, method)
    return [(rule.text, sum(result.passed for result in of_rule), len(of_rule)) for rule, of_rule in checked]


def _unchecked(results: ComparisonResults, method: str) -> dict[str, str]:
    """The rules that none of its runs can be held to, and why."""
    return {rule.text: why for rule, of_rule in by_rule(results, method) if (why := unchecked(of_rule))}


def _doubts(results: ComparisonResults, method: str, benefits: list[Benefit]) -> dict[str, str]:
    """What speaks against relying on the figures: a word for each doubt, and what it is about."""
    small = [
        f"{data.name} ({data.size})"
        for data in results.chosen_runs(method)[0].summary.data
        if data.kind in ("id", "ood", "retained") and data.size is not None and data.size < _FEW_ROWS
    ]
    both = [results.method(name) for name in (REFERENCE, method)]
    edges = [f"{facts.title}: {setting_text(edge)}" for facts in both if (edge := at_edge(results, facts))]
    lost = {facts.title: len(diverged(results, facts.name)) for facts in both}
    losses = [benefit.kind for benefit in benefits if benefit.sign < 0]
    few = min(len(finished_seeds(results, name)) for name in (REFERENCE, method)) < LEAST_SEEDS
    found = {
        "not_learned": collapse(results),
        "losses": ", ".join(losses),
        "diverged": ", ".join(f"{title} ({count})" for title, count in lost.items() if count),
        "few_seeds": str(LEAST_SEEDS) if few else "",
        "no_ood": "" if data_sets(results, "ood") else "ood",
        "no_retained": "" if data_sets(results, "retained") else "retained",
        "no_rules": "" if results.rules else "rules",
        "small": ", ".join(small),
        "edges": "; ".join(edges),
        "one_rate": ", ".join(facts.title for facts in both if has_one_learning_rate(results, facts)),
        "no_small_rates": "" if any(each.name == SMALL_RATE for each in results.methods) else SMALL_RATE,
    }
    return {doubt: about for doubt, about in found.items() if about}
