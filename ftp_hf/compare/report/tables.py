"""The tables of a report, as text that Markdown and HTML are made of."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence

from ftp_hf.common.figures import change, duration, mean_and_sd, metric_title, setting_text, show, signed, size
from ftp_hf.compare.evidence.differences import cost, differences_to_plain, matched_differences, relative_to_plain
from ftp_hf.compare.evidence.formats import percent, span
from ftp_hf.compare.evidence.measures import (
    CURVE,
    REFERENCE,
    TESTED,
    by_seed,
    corruptions,
    data_sets,
    finished_seeds,
    kept_epochs,
    metric_of,
    on_data,
    pretrained_figure,
    retained,
    set_name,
    tested,
)
from ftp_hf.compare.evidence.rates import at_settings
from ftp_hf.compare.evidence.results import ComparisonResults, MethodFacts
from ftp_hf.compare.evidence.rules import by_rule, meets_rules, unchecked
from ftp_hf.compare.evidence.statistics import known_mean
from ftp_hf.runs.facts import PRETRAINED, RuleResult
from ftp_hf.runs.rules import parse_rules

from .blocks import Strong, Table, marked

__all__ = [
    "KINDS",
    "costs_table",
    "data_table",
    "drift_table",
    "matched_table",
    "means_table",
    "most_moved_table",
    "paired_table",
    "rates_table",
    "retained_table",
    "rules_table",
    "sets_table",
    "share_met",
    "sweep_table",
]

# What matters most comes first: a phone shows three columns.
KINDS = {"id": "ID test", "ood": "OOD mean", "corrupted": "corrupted mean", "validation": "ID validation"}
_KEPT = "kept after epoch"
_MOST_MOVED = 3
_FUNCTION = {
    (kind, metric): f"{title} on {'retained' if kind == 'retained' else kind.upper()}"
    for metric, title in (("kl", "KL"), ("hidden_change", "hidden change"))
    for kind in ("id", "ood", "retained")
}
_DRIFT = {
    "relative": "relative distance",
    "row_norm": "largest row norm",
    "lipschitz": "largest bound of a layer",
    "fine_tuned": "largest sensitivity",
    "pretrained": "pre-trained, largest",
    "typical_fine_tuned": "typical sensitivity",
    "typical_pretrained": "pre-trained, typical",
}


def means_table(results: ComparisonResults) -> Table:
    """Mean ± standard deviation over the seeds of each method, by kind of data; the pre-trained model above them."""
    kinds = {kind: title for kind, title in KINDS.items() if data_sets(results, kind)}
    before = {kind: pretrained_figure(results, kind) for kind in kinds}
    rows = [
        [
            method.title,
            *(mean_and_sd(by_seed(results, method.name, kind).values(), results.metric) for kind in kinds),
            str(len(finished_seeds(results, method.name))),
        ]
        for method in results.methods
    ]
    if any(value is not None for value in before.values()):
        shown = ("" if value is None else show(value, results.metric) for value in before.values())
        rows.insert(0, [PRETRAINED, *shown, ""])
    return Table(["method", *kinds.values(), "seeds"], rows)


def retained_table(results: ComparisonResults) -> Table:
    """The figure of each method on each retained set, and how it changed; the pre-trained model above them."""
    kinds = retained(results)
    before = {kind: pretrained_figure(results, kind) for kind in kinds}
    rows = [
        [method.title, *(_retained(by_seed(results, method.name, kind), before[kind], results, kind) for kind in kinds)]
        for method in results.methods
    ]
    known = ("" if value is None else show(value, metric_of(results, kind)) for kind, value in before.items())
    titles = [f"{set_name(kind)} ({metric_title(metric_of(results, kind))})" for kind in kinds]
    return Table(["method", *titles], [[PRETRAINED, *known], *rows] if kinds else [])


def _retained(values: Mapping[int, float], before: float | None, results: ComparisonResults, kind: str) -> str:
    metric = metric_of(results, kind)
    text = mean_and_sd(values.values(), metric)
    return (
        f"{text} ({signed(statistics.fmean(values.values()) - before, metric)})"
        if values and before is not None
        else text
    )


def sets_table(results: ComparisonResults) -> Table:
    """The same means for every data set; of the corruptions, each kind's mean over its severities."""
    methods = [method.name for method in results.methods]
    rows = [
        [
            f"{KINDS.get(kind, kind).split()[0]} {name}",
            *(
                mean_and_sd(on_data(results, method, kind, name).values(), metric_of(results, f"{kind}/{name}"))
                for method in methods
            ),
        ]
        for kind in ("id", "ood", "retained")
        for name in data_sets(results, kind)
    ]
    rows += [
        [
            f"corrupted {kind}",
            *(
                mean_and_sd(by_seed(results, method, "corrupted", prefix=f"{kind}/").values(), results.metric)
                for method in methods
            ),
        ]
        for kind in corruptions(results)
    ]
    return Table(["data", *(method.title for method in results.methods)], rows)


def paired_table(results: ComparisonResults) -> Table:
    """Each method minus plain fine-tuning over the same seeds; clear differences are bold."""
    kinds = {kind: KINDS[kind] for kind in TESTED if data_sets(results, kind)}
    kept = retained(results)
    rows, found = [], differences_to_plain(results)
    for method in results.methods:
        differences = {kind: found.get((method.name, kind)) for kind in (*kinds, *kept)}
        seeds = span({len(each.by_seed) for each in differences.values() if each})
        if method.name == REFERENCE or not seeds:
            continue
        relative = [relative_to_plain(results, method.name, kind) for kind in kinds]
        rows.append(
            [
                method.title,
                *(marked(each, metric_of(results, kind)) for kind, each in differences.items()),
                *("" if each is None else percent(each) for each in relative),
                seeds,
            ]
        )
    changes = [f"{title.split()[0]} Δ %" for title in kinds.values()]
    named = [set_name(kind) for kind in kept]
    return Table(["method", *kinds.values(), *named, *changes, "seeds"], rows)


def rules_table(results: ComparisonResults) -> Table:
    """How many of a method's runs meet each rule, or why it cannot be checked, and all of them; in bold where every run does."""
    if not results.rules:
        return Table(["method"], [])
    rows = []
    for method in results.methods:
        checked = [of_rule for _, of_rule in by_rule(results, method.name)]
        met = [all(result.passed for result in of_run) for of_run in zip(*checked, strict=True)]
        rows.append([method.title, *map(_runs_that_meet, checked), share_met(met)])
    return Table(["method", *(rule.text for rule in parse_rules(results.rules, results.metric)), "all"], rows)


def _runs_that_meet(results: Sequence[RuleResult]) -> str:
    why = unchecked(results)
    return f"cannot be checked: {why}" if why else share_met([result.passed for result in results])


def rates_table(results: ComparisonResults) -> Table:
    """
    Each method at each learning rate (and length, where several were tried) that it was evaluated at, with the epochs after
    which its weights are kept, where that is not always the last; how many runs meet all rules is bold where all do.
    """
    kinds = {kind: KINDS.get(kind, kind) for kind in tested(results) if data_sets(results, kind.split("/")[0])}
    at, rows = at_settings(results), []
    for method in (method.name for method in results.methods):
        for length, rate, there in at:
            if any(each.name == method for each in there.methods):
                values = [
                    mean_and_sd(by_seed(there, method, kind).values(), metric_of(results, kind)) for kind in kinds
                ]
                met = [share_met([meets_rules(there, run) for run in there.chosen_runs(method)])] * bool(results.rules)
                setting = [f"{value:g}" for value in (length, rate) if value is not None]
                kept = span(kept_epochs(results, there.chosen_runs(method)))
                rows.append([there.method(method).title, *setting, kept, *values, *met])
    epochs = ["epochs"] * any(length is not None for length, _, _ in at)
    rules_head = ["rules met"] if results.rules else []
    return _without_empty(Table(["method", *epochs, "learning rate", _KEPT, *kinds.values(), *rules_head], rows))


def matched_table(results: ComparisonResults) -> Table:
    """OOD of each method minus that of WiSE-FT's curve at the same ID accuracy, seed by seed."""
    rows, found = [], matched_differences(results)
    for method in results.methods:
        seeds = finished_seeds(results, method.name)
        if method.name in (REFERENCE, CURVE) or not seeds:
            continue
        paired = found.get(method.name)
        text = marked(paired, results.metric) if paired else "not defined"
        rows.append([method.title, text, f"{len(paired.by_seed) if paired else 0} of {len(seeds)}"])
    return Table(["method", "OOD at the same ID", "seeds on the curve"], rows)


def sweep_table(results: ComparisonResults) -> Table:
    """
    Every setting that was tried with the first seed, its ID validation, and, over all seeds that it was run with, the epochs
    after which the weights are kept, where that is not always the last.
    """
    rows = []
    for method in results.methods:
        for setting in _settings(results, method):
            runs = [run for run in results.runs if run.method == method.name and run.setting == setting]
            first = next((run for run in runs if run.seed == results.seeds[0]), None)
            value = first.value("validation", results.metric) if first else None
            figure = "not run yet" if value is None else show(value, results.metric)
            row = [method.title, setting_text(setting), figure, span(kept_epochs(results, runs))]
            rows.append([Strong(cell) for cell in row] if setting == method.chosen else row)
    return _without_empty(Table(["method", "setting", "ID validation", _KEPT], rows, left=2))


def costs_table(results: ComparisonResults) -> Table:
    """What each method takes: time and memory with their ratio to plain fine-tuning, parameters, optimizer state."""
    rows = []
    for method in results.methods:
        runs = results.chosen_runs(method.name)
        measured = [
            _cost(results, method.name, what, text)
            for what, text in (("seconds_per_step", duration), ("peak_memory_bytes", size), ("total_seconds", duration))
        ]
        parameters = {run.trainable_parameters for run in runs if run.trainable_parameters is not None}
        state = [run.optimizer_bytes for run in runs if run.optimizer_bytes is not None]
        rows.append(
            [
                method.title,
                *measured,
                " / ".join(f"{count:,}" for count in sorted(parameters)),
                size(statistics.fmean(state)) if state else "",
            ]
        )
    header = ["method", "time per step", "peak memory", "training time", "trainable parameters", "optimizer state"]
    return _without_empty(Table(header, rows))


def data_table(results: ComparisonResults) -> Table:
    """The data sets, with their sizes."""
    sets = {
        (data.kind, data.name): data for run in results.runs for data in run.summary.data if data.kind != "corrupted"
    }
    rows = [
        [
            {"id": "ID test", "ood": "OOD", "train": "training"}.get(kind, kind),
            name,
            data.source or "",
            data.split or "",
            "" if data.size is None else f"{data.size:,}",
        ]
        for (kind, name), data in sets.items()
    ]
    return _without_empty(Table(["for", "name", "source", "split", "rows"], rows, left=4))


def drift_table(results: ComparisonResults) -> Table:
    """
    How far each method's models are from the pre-trained one, as a whole: in what they answer, and in their weights. Means
    over the seeds that each figure was measured on, which for sensitivities is the first one.
    """
    rows = []
    for method in results.methods:
        runs = results.chosen_runs(method.name)
        drifts = [run.drift for run in runs if run.drift is not None]
        if drifts:
            moved = [known_mean(run.value(kind, metric) for run in runs) for kind, metric in _FUNCTION]
            values = [*moved, *(known_mean(getattr(drift, name) for drift in drifts) for name in _DRIFT)]
            rows.append([method.title, *("" if value is None else f"{value:.3g}" for value in values)])
    return _without_empty(Table(["method", *_FUNCTION.values(), *_DRIFT.values()], rows))


def most_moved_table(results: ComparisonResults) -> Table:
    """The parameters of each method that are relatively furthest from their pre-trained values, the mean over the seeds."""
    rows = []
    for method in results.methods:
        moved: dict[str, list[tuple[float, float]]] = {}
        for run in results.chosen_runs(method.name):
            for parameter in run.drift.parameters if run.drift else ():
                if parameter.relative is not None:
                    moved.setdefault(parameter.name, []).append((parameter.relative, parameter.row_norm))
        means = {
            name: [statistics.fmean(column) for column in zip(*values, strict=True)] for name, values in moved.items()
        }
        most = sorted(means, key=lambda name: -means[name][0])[:_MOST_MOVED]
        rows += [[method.title, name, *(f"{value:.3g}" for value in means[name])] for name in most]
    return Table(["method", "parameter", "relative distance", "row norm"], rows, left=2)


def _settings(results: ComparisonResults, method: MethodFacts) -> list[dict[str, float]]:
    """All combinations of the sweep, and what else was run."""
    planned = [dict(zip(method.sweep, values, strict=True)) for values in itertools.product(*method.sweep.values())]
    run = [run.setting for run in results.runs if run.method == method.name]
    settings = [*(planned if method.sweep else []), *run]
    return list({tuple(sorted(setting.items())): setting for setting in settings}.values())


def _cost(results: ComparisonResults, method: str, what: str, text: Callable[[float], str]) -> str:
    taken = cost(results, method, what)
    if taken is None:
        return ""
    ratio = "" if taken.ratio is None or method == REFERENCE else f" ({change(taken.ratio)})"
    return f"{text(taken.mean)}{ratio}"


def _without_empty(table: Table) -> Table:
    """The table without columns that are empty in every row."""
    used = [number for number in range(len(table.header)) if number == 0 or any(row[number] for row in table.rows)]
    left = sum(number < table.left for number in used)
    return Table([table.header[n] for n in used], [[row[n] for n in used] for row in table.rows], left)


def share_met(met: Sequence[bool]) -> str:
    """`"3 of 9"`; in bold where it is all of them."""
    text = f"{sum(met)} of {len(met)}" if met else ""
    return Strong(text) if met and all(met) else text
