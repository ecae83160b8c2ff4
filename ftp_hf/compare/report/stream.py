"""A stream as a report: what is left of each stage, what was forgotten on the way, and what it cost."""

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from ftp_hf.common.figures import (
    MINUS,
    duration,
    mean_and_sd,
    metric_named,
    metric_title,
    setting_text,
    show,
    size,
)
from ftp_hf.compare.evidence.formats import difference, interval, mean, points
from ftp_hf.compare.evidence.measures import REFERENCE
from ftp_hf.compare.evidence.statistics import PairedDifference, holm, paired_difference
from ftp_hf.compare.evidence.stream_results import LEVELS, MEASURES, StreamResults

from .blocks import Block, Picture, Points, Section, Strong, Table, Text, how_to_repeat, marked
from .stream_rules import broken_rules, rules_met
from .write import check_charts_can_be_drawn, pages, write_pages

__all__ = ["stream_headline", "write_stream_report"]

_FINAL = "final average"
_MEANING = {
    "final average": "the mean over all stages after the last one",
    "worst stage": "of these, the worst",
    "learning accuracy": "the mean over the stages, each right after it was trained: what a method is able to learn",
    "backward transfer": "after the last stage minus right after its own, the mean over all stages but the last",
    "forgetting": "the best that a stage ever was before the last one, minus what it is in the end; less is better",
    "forward transfer": "right before a stage was trained minus before any was",
}


def write_stream_report(results: StreamResults, folder: str | Path) -> list[Path]:
    """
    Write the report of a stream, in place of an earlier one; the folder is created if need be.

    Returns:
        `list[Path]`: `report.html`, which needs no other file, `report.md` and the charts.

    Raises:
        ImportError: matplotlib is missing.
    """
    check_charts_can_be_drawn()
    from .pictures import save_charts  # noqa: PLC0415 (matplotlib is optional)
    from .stream_charts import drawn  # noqa: PLC0415

    folder = Path(folder)
    pictures = save_charts(drawn(results), folder)
    return write_pages(
        pages(results.name, stream_headline(results), list(_sections(results, pictures))), pictures, folder
    )


def stream_headline(results: StreamResults) -> str:
    """Which method that trains one stage after the other has the best final average, in a line."""
    finals = {method.name: statistics.fmean(results.of_runs(method.name, _FINAL)) for method in results.methods}
    sequential, rank = results.sequential, metric_named(results.metric).rank
    best = max(sequential or finals, key=lambda name: rank(finals[name]))
    text = f"Best final average {_metric(results)}: {results.method(best).title}, {show(finals[best], results.metric)}"
    paired = _against_plain(results, _FINAL).get(best)
    if paired is not None:
        clear = "" if paired.is_clear else ", which these runs do not tell from zero"
        text += f"; {mean(paired, results.metric)}{points(results.metric)} {interval(paired, results.metric)}".rstrip()
        text += f" against sequential training{clear}"
    joint = [
        f"{results.method(name).title} training: {show(finals[name], results.metric)}"
        for name in finals
        if name not in sequential
    ]
    return "; ".join([text, *joint]) + "."


def _sections(results: StreamResults, pictures: Mapping[str, Picture]) -> Iterator[Section]:
    measures = Points(list(_MEANING.items()))
    yield Section(
        "What is left in the end",
        [
            _measures_table(results),
            Text(
                f"Mean ± standard deviation over orders and seeds, on the test sets: {metric_title(results.metric)}. The best method "
                "that trains stage after stage is in bold."
            ),
            measures,
        ],
    )
    if results.rules:
        yield Section("Rules", rules_met(results))
    yield Section("Against sequential training", [*_paired(results)])
    heat = [picture for name, picture in pictures.items() if name.startswith("matrix")]
    others = [picture for name, picture in pictures.items() if not name.startswith("matrix")]
    yield Section("From stage to stage", [*others, *heat])
    if results.retained_metrics:
        yield Section("What the model could do before", list(_retained(results)))
    yield Section("What it took", [_cost_table(results)])
    if results.rules:
        yield Section("Broken rules", broken_rules(results), folded=True)
    yield Section("Setup", [Points(list(_setup(results)))], folded=True)
    yield Section("Repeat it", how_to_repeat(results.command, results.config), folded=True)


def _measures_table(results: StreamResults) -> Table:
    values = {(each.name, name): results.of_runs(each.name, name) for each in results.methods for name in MEASURES}
    means = {key: statistics.fmean(found) for key, found in values.items() if found}
    sequential = results.sequential
    best = {
        name: max(
            (mean for (method, measure), mean in means.items() if measure == name and method in sequential),
            key=metric_named(results.metric).rank,
            default=None,
        )
        for name in LEVELS
    }
    rows = []
    for method in results.methods:
        cells = []
        for name in MEASURES:
            text = mean_and_sd(values[method.name, name], results.metric)
            is_best = method.name in sequential and name in best and means[method.name, name] == best[name]
            cells.append(Strong(text) if is_best else text.replace("-", MINUS))
        rows.append([method.title, *cells, str(len(results.of(method.name)))])
    return Table(["method", *MEASURES, "runs"], rows)


def _against_plain(results: StreamResults, measure: str) -> dict[str, PairedDifference]:
    """Each method minus sequential training over the same orders and seeds, corrected for how many there are."""
    figures = partial(results.measured, measure=measure)
    found = {
        method.name: paired_difference(*results.pairs(method.name, REFERENCE, figures), results.possible(measure))
        for method in results.methods
        if method.name != REFERENCE and figures(REFERENCE)
    }
    return holm({name: paired for name, paired in found.items() if paired is not None})


def _paired(results: StreamResults) -> Iterator[Block]:
    found = {measure: _against_plain(results, measure) for measure in MEASURES}
    rows = [
        [method.title, *(marked(found[measure].get(method.name), results.metric) for measure in MEASURES)]
        for method in results.methods
        if method.name in found[_FINAL]
    ]
    if not rows:
        yield Text("Sequential training (plain) is not among the methods.")
        return
    yield Table(["method", *MEASURES], rows)
    yield Text(
        "The method minus sequential training over the same orders and seeds, with 95 % intervals (Student's t over the pairs, "
        "as if orders were drawn like seeds; for joint training over the seeds). In bold where the difference is clear: p is at most 0.05, corrected for "
        "all methods of a column (Holm)."
    )


def _retained(results: StreamResults) -> Iterator[Block]:
    before = {
        name: [run.retained[name][0] for run in results.runs if name in run.retained]
        for name in results.retained_metrics
    }
    rows = [["before", *(mean_and_sd(before[name][:1], metric) for name, metric in results.retained_metrics.items())]]
    for method in results.methods:
        cells = [_after_all(results, method.name, name, metric) for name, metric in results.retained_metrics.items()]
        rows.append([method.title, *cells])
    titles = [f"{name} ({metric_title(metric)})" for name, metric in results.retained_metrics.items()]
    yield Table(["method", *titles], rows)
    if any(method.name == REFERENCE for method in results.methods):
        yield Text(
            "After the last stage, and in brackets the method minus sequential training over the same orders and seeds, with its 95 % "
            "interval."
        )


def _after_all(results: StreamResults, method: str, name: str, metric: str) -> str:
    figures = partial(results.retained, name=name)
    text = mean_and_sd([run.retained[name][-1] for run in results.of(method)], metric)
    if method == REFERENCE or not figures(REFERENCE):
        return text
    paired = paired_difference(*results.pairs(method, REFERENCE, figures), metric_named(metric).possible)
    return text if paired is None else f"{text} ({difference(paired, metric)})"


def _cost_table(results: StreamResults) -> Table:
    rows = []
    for method in results.methods:
        runs = results.of(method.name)
        seconds = [run.seconds for run in runs if run.seconds is not None]
        memory = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
        rows.append(
            [
                method.title,
                duration(statistics.fmean(seconds)) if seconds else "",
                size(max(memory)) if memory else "",
            ]
        )
    return Table(["method", "training time of a stream", "peak memory"], rows)


def _setup(results: StreamResults) -> Iterator[tuple[str, str]]:
    yield "Stages", ", ".join(results.stages)
    for number, order in enumerate(results.orders, 1):
        yield f"Order {number}", " → ".join(order)
    yield "Seeds", ", ".join(map(str, results.seeds))
    for method in results.methods:
        yield method.title, f"{method.source} ({setting_text(method.setting)})"


def _metric(results: StreamResults) -> str:
    return results.metric.replace("_", " ")
