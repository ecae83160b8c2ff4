"""What the streams in model_cards/streams came to."""

import statistics
from collections.abc import Callable, Mapping

from measured import ROOT, measure_of

from ftp_hf.common.figures import MINUS, mean_and_sd, metric_named, show, table
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.statistics import paired_difference
from ftp_hf.compare.evidence.stream_results import MEASURES, StreamResults

STREAMS = ROOT / "model_cards" / "streams"
_SHOWN = ("final average", "worst stage", "forgetting")
_RUNS = 9
_OURS = ("ftp", "ftp-first")
_BY_UNITS = {
    "clinc150_minilm": ("final average",),
    "pacs_mobilenet": ("final average", "forgetting"),
    "speakers_whisper_large_rate": ("final average", "read_speech"),
}
_AGAINST_SMALL = ("final average", "worst stage", "learning accuracy", "forgetting")
_HEAD = "[stage after stage](docs/streams.md#what-came-out), final %; rates not tuned (photos: FTP 1e-3, plain 3e-4); only 3 orders: intervals too narrow"
_IN_SHORT = {
    "ten domains of intents, MiniLM": ("clinc150_minilm", "clinc150_minilm_small_rate"),
    "four art styles, MobileNetV2": ("pacs_mobilenet", "pacs_mobilenet_small_rate"),
    "four speakers, Whisper, word errors": ("speakers_whisper_large_rate", "speakers_whisper"),
}
"""What is learnt stage after stage: the stream, and that in which plain fine-tuning has a third of its rate."""


def streams() -> str:
    """A row for each method of each stream: mean ± standard deviation over orders and seeds."""
    rows = [row for file in sorted(STREAMS.glob("*/results.json")) for row in _rows(StreamResults.load(file.parent))]
    return table(["stream", "method", *_SHOWN, "retained, before", "and after the last stage"], rows, left=2)


def after_stages() -> str:
    """The final average of plain fine-tuning, of FTP with the difference, and of plain fine-tuning at a third of its rate."""
    rows = []
    for about, names in _IN_SHORT.items():
        results, small = (StreamResults.load(STREAMS / name) for name in names)
        figures = [results.measured(method, "final average") for method in ("ftp", "plain")]
        paired = paired_difference(*figures, results.possible("final average"))
        ftp = f"{_final(results, 'ftp')} ({difference(paired, results.metric)})"
        rows.append([about, _final(results, "plain"), ftp, _final(small, "plain")])
    return table([_HEAD, "plain", "FTP", "plain, a third of the rate"], rows)


def _final(results: StreamResults, method: str) -> str:
    """With the number of runs where it is not that of three orders and three seeds."""
    values = results.measured(method, "final average").values()
    runs = "" if len(values) == _RUNS else f" ({len(values)} runs)"
    return show(statistics.fmean(values), results.metric) + runs


def small_rate() -> str:
    """Each method minus plain fine-tuning at a third of its rate, over the same orders and seeds."""
    rows = []
    for folder in sorted(STREAMS.glob("*_small_rate")):
        results, small = (
            StreamResults.load(STREAMS / folder.name.removesuffix("_small_rate")),
            StreamResults.load(folder),
        )
        for method in results.methods:
            if method.name not in results.sequential:
                continue
            paired = [
                paired_difference(
                    results.measured(method.name, name), small.measured("plain", name), results.possible(name)
                )
                for name in _AGAINST_SMALL
            ]
            rows.append([results.name, method.title, *(difference(each, results.metric) for each in paired)])
    return table(["minus sequential training at 1e-4", "", *_AGAINST_SMALL], rows, left=2)


def by_units() -> str:
    """FTP minus sequential training, with the interval over all runs, and with those over the means of each order and of each seed."""
    rows = []
    for stream, names in _BY_UNITS.items():
        results = StreamResults.load(STREAMS / stream)
        for name in names:
            rows += [
                [stream, results.method(method).title, name.replace("_", " "), *_with_each_unit(results, method, name)]
                for method in _OURS
                if results.of(method)
            ]
    return table(["minus sequential training", "", "", "all runs", "orders as units", "seeds as units"], rows, left=3)


def _with_each_unit(results: StreamResults, method: str, name: str) -> list[str]:
    """The difference in a measure or a retained set, over the runs by their numbers, by their orders and by their seeds."""
    measured, metric, possible = results.measured, results.metric, results.possible(name)
    if name not in MEASURES:
        measured, metric = results.retained, results.retained_metrics[name]
        possible = metric_named(metric).possible
    seeds = len(results.seeds)
    units: list[Callable[[int], int]] = [
        lambda number: number,
        lambda number: number // seeds,
        lambda number: number % seeds,
    ]
    figures = [measured(each, name) for each in (method, "plain")]
    return [
        difference(paired_difference(*(_means(each, unit) for each in figures), possible), metric) for unit in units
    ]


def _means(figures: Mapping[int, float], unit: Callable[[int], int]) -> dict[int, float]:
    """The mean over the runs of each unit."""
    of_unit: dict[int, list[float]] = {}
    for number, figure in figures.items():
        of_unit.setdefault(unit(number), []).append(figure)
    return {each: statistics.fmean(values) for each, values in of_unit.items()}


def _rows(results: StreamResults) -> list[list[str]]:
    link = f"[{results.name}](../model_cards/streams/{results.name}/report.md) ({measure_of(results)})"
    rows = []
    for method in results.methods:
        figures = [
            mean_and_sd(results.of_runs(method.name, name), results.metric).replace("-", MINUS) for name in _SHOWN
        ]
        rows.append(
            [link, method.title, *figures, _retained(results, method.name, 0), _retained(results, method.name, -1)]
        )
        link = ""
    return rows


def _retained(results: StreamResults, method: str, place: int) -> str:
    """Of the retained sets that are measured as the stages are, after so many of these."""
    same = [name for name, metric in results.retained_metrics.items() if metric == results.metric]
    if not same:
        return "–"
    return mean_and_sd(
        [statistics.fmean(run.retained[name][place] for name in same) for run in results.of(method)], results.metric
    )
