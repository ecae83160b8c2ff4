"""The table of a model card's results."""

import re
import statistics
from collections.abc import Mapping, Sequence

from ftp_hf.common.figures import main_metric, mean_and_sd, metric_named, metric_title, table
from ftp_hf.runs.corrupted import corruption_of, inert_among
from ftp_hf.runs.facts import PLAIN, PRETRAINED, Evaluation
from ftp_hf.runs.summary import RunSummary, mean_by_seed

__all__ = ["results_note", "results_table", "seeds_of"]

_LABELS = {"earlier": "earlier stage", "ood": "OOD"}
_METHODS = {"ftp": "FTP", "plain": PLAIN}

_RATE = re.compile(r"\blr=[^,)]+")

Column = tuple[str, Sequence[Evaluation], str | None]


def results_table(summary: RunSummary, metric: str) -> str:
    """
    ID, OOD, its mean, that of corrupted copies and what was lost of the OOD mean, for this model, its method over all seeds, and others.
    Corruptions that change nothing, as [`inert_among`] finds them, count in no mean.
    """
    columns = _columns(summary, metric)
    rows = []
    for kind in ("validation", "id", "earlier", "ood"):
        names = [result.data for result in summary.of_kind(kind) if metric in result.metrics]
        title = _LABELS.get(kind, "ID")
        rows += [_mean_row(f"{title} {name}", columns, [name], kind, metric) for name in names]
        if kind == "ood" and len(names) > 1:
            rows.append(_mean_row("**OOD mean**", columns, names, kind, metric))
    inert = inert_among(results for _, results, _ in columns)
    corrupted = [result.data for result in summary.of_kind("corrupted") if metric in result.metrics]
    if counted := [name for name in corrupted if corruption_of(name) not in inert]:
        rows.append(_mean_row(f"corrupted mean ({len(counted)} sets)", columns, counted, "corrupted", metric))
    lost = _lost(summary, columns, metric)
    if any(values and statistics.fmean(values) > 0 for values in lost):
        rows.append(["OOD mean lost", *(mean_and_sd(values, metric) for values in lost)])
    if metric == summary.metric:  # each in its own, once
        rows += _retained(summary, columns)
    return table(["data", *(name for name, _, _ in columns)], rows)


def _mean_row(title: str, columns: Sequence[Column], names: Sequence[str], kind: str, metric: str) -> list[str]:
    means = [_mean_values(results, names, kind, metric, seed) for _, results, seed in columns]
    return [title, *(mean_and_sd(values, metric) for values in means)]


def _retained(summary: RunSummary, columns: Sequence[Column]) -> list[list[str]]:
    """What the pre-trained model could do before, a row for each set, in its own metric."""
    rows = []
    for result in summary.of_kind("retained"):
        if metric := main_metric(result.metrics):
            named = f"retained {result.data} ({metric_title(metric)})"
            rows.append(_mean_row(named, columns, [result.data], "retained", metric))
    return rows


def _columns(summary: RunSummary, metric: str) -> list[Column]:
    """The kept weights first, where a phone shows them; then other models, and this method over all seeds."""
    order = {PRETRAINED: 0, PLAIN: 1}
    others = sorted(summary.comparisons, key=lambda other: order.get(other.name, 2))
    columns: list[Column] = [
        (_counted(other.name, seeds_of(other.results, metric)), other.results, None) for other in others
    ]
    seeds = seeds_of(summary.results, metric)
    if len(seeds) > 1:
        method = _METHODS.get(summary.method, summary.method)
        columns.append((_counted(method, seeds), summary.results, None))
    return [("**this model**", summary.results, str(summary.seed)), *columns]


def _counted(name: str, seeds: Sequence[str]) -> str:
    return f"{name}, {len(seeds)} seeds" if len(seeds) > 1 else name


def seeds_of(results: Sequence[Evaluation], metric: str) -> list[str]:
    """The seeds that any of the results has."""
    return list(dict.fromkeys(seed for result in results for seed in result.metrics.get(metric, {})))


def _mean_values(
    results: Sequence[Evaluation], names: Sequence[str], kind: str, metric: str, seed: str | None
) -> list[float]:
    chosen = [result for result in results if result.kind == kind and result.data in names]
    return _of_seed(mean_by_seed(chosen, metric), seed) if len(chosen) == len(names) else []


def _of_seed(values: Mapping[str, float], seed: str | None) -> list[float]:
    """The value of a seed, if it has one; of all seeds without one."""
    if seed is None:
        return list(values.values())
    return [values[seed]] if seed in values else []


def _lost(summary: RunSummary, columns: Sequence[Column], metric: str) -> list[list[float]]:
    """How much of the pre-trained model's OOD mean is gone, by column and seed; nothing where that was not measured."""
    names = [result.data for result in summary.of_kind("ood") if metric in result.metrics]
    before = summary.pretrained
    start = _mean_values(before.results, names, "ood", metric, None) if before else []
    if before is None or not names or not start:
        return []
    sign, was = metric_named(metric).sign, statistics.fmean(start)
    return [
        []
        if results is before.results
        else [sign * (was - value) for value in _mean_values(results, names, "ood", metric, seed)]
        for _, results, seed in columns
    ]


def results_note(summary: RunSummary, metric: str) -> str:
    """What the figures of the table are."""
    note = metric_title(metric)
    seeds = seeds_of(summary.results, metric)
    if len(seeds) > 1:
        note += f"; mean ± standard deviation over seeds {', '.join(seeds)}, of which this model is {summary.seed}"
    elif summary.seed is not None:
        note += f"; seed {summary.seed}"
    optimizers = [
        f"{other.name} was trained with `{other.optimizer}`{_whose_rate(other.optimizer, summary.optimizer)}"
        for other in summary.comparisons
        if other.optimizer
    ]
    return ". ".join(text[0].upper() + text[1:] for text in (note, *optimizers)) + "."


def _whose_rate(optimizer: str, this_models: str | None) -> str:
    """A rate that was chosen for one method may be a poor one for another, and the figures do not show it."""
    rate = _RATE.findall(optimizer)
    same = rate and rate == _RATE.findall(this_models or "")
    return ", at this model's learning rate: another may suit it better" if same else ""
