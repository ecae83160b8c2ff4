"""The charts of a report, and what is said below each."""

import statistics
from collections.abc import Callable, Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ftp_hf.common.figures import duration, metric_named, size
from ftp_hf.compare.evidence.differences import cost, relative_to_plain
from ftp_hf.compare.evidence.formats import percent
from ftp_hf.compare.evidence.measures import (
    REFERENCE,
    by_seed,
    corruptions,
    inert_corruptions,
    possible,
    radii,
    robust_kind,
    severity_curve,
)
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.compare.evidence.statistics import relative_change

from .pictures import Drawn
from .radii import draw_radius_map
from .rates import draw_rates
from .retained import draw_retained
from .scatter import draw_scatter, mean_curve
from .style import (
    LARGE,
    MEDIUM,
    SMALL,
    axis_title,
    bare,
    colour,
    deviation,
    draw_chance,
    draw_legend,
    in_units,
    mark,
    new_figure,
    remove_spare,
    titles,
    without_formulas,
)

__all__ = ["drawn"]

# Between the marks of neighbouring methods, in steps of severity.
_BESIDE = 0.05


def drawn(results: ComparisonResults) -> Iterator[Drawn]:
    """
    The charts that there are figures for: `"scatter"`, `"retained"`, `"rates"`, `"relative"`, `"severity"`, `"corruptions"`,
    `"time"`, `"memory"`, `"radii-METHOD"`.
    """
    metric = results.metric.replace("_", " ")
    charts: list[tuple[str, str, str, Callable[[ComparisonResults], Figure | None]]] = [
        (
            "scatter",
            "ID against OOD",
            (
                "Up and to the right is better. Large marks are means with their standard deviation over seeds, small ones the seeds"
                + ", the line WiSE-FT's way from pre-trained to fine-tuned weights" * bool(mean_curve(results))
                + ". Ringed: no other mean is better in both, which can be chance."
            ),
            draw_scatter,
        ),
        (
            "retained",
            "What is left of what the model could do before",
            (
                "To the right is better. Large marks are means with their standard deviation over seeds, small ones the seeds, "
                "the dashed line the model before training."
            ),
            draw_retained,
        ),
        (
            "rates",
            "Figures against the learning rate",
            (
                "Up is better. Means with a band of one standard deviation over seeds, the dashed line the model before "
                "training, or its figure where that is far off. Where a line is flat, a wrong learning rate does no harm."
            ),
            draw_rates,
        ),
        (
            "relative",
            "Change relative to plain fine-tuning",
            (
                f"In percent of plain fine-tuning's {metric}, as the tables of TPGM and FTP have it; dots are seeds."
                + " Less is better." * metric_named(results.metric).less_is_better
            ),
            _relative,
        ),
        (
            "severity",
            f"{metric[0].upper()}{metric[1:]} against the severity of corruption",
            (
                "Mean over all kinds of corruption, and over the seeds with their standard deviation; 1 is barely visible, 5 is "
                "hard."
            ),
            _severity,
        ),
        (
            "corruptions",
            "The same for each kind of corruption",
            "Mean over the seeds, with their standard deviation.",
            _corruptions,
        ),
        ("time", "Time per step", "Of a training step as a whole, the median of a run; mean over the seeds.", _time),
        ("memory", "Peak memory", "Of the device; mean over the seeds.", _memory),
    ]
    for name, title, note, draw in charts:
        if figure := draw(results):
            yield name, title, note, figure
    for method in results.methods:
        if learned := radii(results, method.name):
            yield (
                f"radii-{method.name}",
                f"Learned radius of each parameter, {method.title}",
                (
                    "Columns are the layers from input to output; median over the seeds, logarithmic. Parameters in the colours "
                    "of the bar's left end stayed near their pre-trained weights, those in the colours of its right end moved most."
                ),
                draw_radius_map(learned),
            )


def _relative(results: ComparisonResults) -> Figure | None:
    kinds = ["id", robust_kind(results)]
    names = {"id": "ID", "ood": "OOD", "corrupted": "corrupted"}
    short = titles(results)
    rows = [
        (method.name, kind, change)
        for method in results.methods
        for kind in kinds
        if kind and method.name != REFERENCE and (change := relative_to_plain(results, method.name, kind)) is not None
    ]
    if not rows:
        return None
    figure = new_figure(0.9 + 0.34 * len(rows))
    axes = figure.add_subplot()
    # With room between the methods.
    methods = list(dict.fromkeys(method for method, _, _ in rows))
    places = [row + 0.5 * methods.index(method) for row, (method, _, _) in enumerate(rows)]
    for place, (method, kind, change) in zip(places, rows, strict=True):
        axes.barh(place, change, height=0.8, color=colour(method), alpha=0.45 if kind == "id" else 1)
        plain, values = by_seed(results, REFERENCE, kind), by_seed(results, method, kind)
        seeds = [relative_change(value, plain[seed]) for seed, value in values.items() if plain.get(seed, 0) > 0]
        axes.plot(seeds, [place] * len(seeds), "o", color="#222222", markersize=3.5, alpha=0.7, markeredgewidth=0)
        axes.annotate(
            percent(change), (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=MEDIUM,
        )  # fmt: skip
    # The first row of a method has its name: there is no ID row where plain fine-tuning's figure is zero.
    first = {method: kind for method, kind, _ in reversed(rows)}
    axes.set_yticks(
        places,
        [f"{short[method]}  {names[kind]}" if kind == first[method] else names[kind] for method, kind, _ in rows],
    )
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.axvline(0, color="#222222", linewidth=1)
    axes.set_xlabel("Δ relative to plain fine-tuning (%)", fontsize=LARGE)
    bare(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _severity(results: ComparisonResults) -> Figure | None:
    curves = {method.name: severity_curve(results, method.name) for method in results.methods}
    curves = {method: curve for method, curve in curves.items() if curve}
    if not curves:
        return None
    figure = new_figure(5.2)
    axes = figure.add_subplot()
    lines = _lines(axes, results, curves, size=6)
    axes.set_xlabel("severity", fontsize=LARGE)
    axes.set_ylabel(axis_title(results.metric), fontsize=LARGE)
    bare(axes)
    draw_chance(axes, results)
    draw_legend(figure, results, lines)
    return figure


def _corruptions(results: ComparisonResults) -> Figure | None:
    left_out = inert_corruptions(results)
    kinds = [kind for kind in corruptions(results) if kind not in left_out]
    if len(kinds) < 2:
        return None
    rows = -(-len(kinds) // 2)
    figure = new_figure(0.9 + 1.55 * rows)
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    lines: dict[str, Line2D] = {}
    for axes, kind in zip(grid.flat, kinds, strict=False):
        curves = {method.name: severity_curve(results, method.name, kind) for method in results.methods}
        lines |= _lines(axes, results, {method: curve for method, curve in curves.items() if curve}, size=4)
        axes.set_title(without_formulas(kind.replace("_", " ")), fontsize=MEDIUM, loc="left", pad=3)
        bare(axes)
        axes.tick_params(labelsize=SMALL)
    remove_spare(grid, len(kinds))
    draw_legend(figure, results, lines)
    figure.supxlabel("severity", fontsize=MEDIUM)
    figure.supylabel(axis_title(results.metric), fontsize=MEDIUM)
    return figure


def _lines(
    axes: Axes, results: ComparisonResults, curves: dict[str, dict[int, list[float]]], *, size: int
) -> dict[str, Line2D]:
    """Means over the seeds with their standard deviation, the methods beside each other so that no bar covers another."""
    lines = {}
    for number, (method, curve) in enumerate(curves.items()):
        shift = _BESIDE * (number - (len(curves) - 1) / 2)
        means = [statistics.fmean(values) for values in curve.values()]
        ends = [deviation(values, possible(results)) for values in curve.values()]
        bars = [[in_units(results.metric, end) for end in side] for side in zip(*ends, strict=True)]
        (lines[method], *_) = axes.errorbar(
            [severity + shift for severity in curve], [in_units(results.metric, mean) for mean in means], yerr=bars, fmt="-",
            marker=mark(method), color=colour(method), markersize=size, linewidth=1.6, markeredgewidth=0,
            elinewidth=0.8,
        )  # fmt: skip
        axes.set_xticks(list(curve))
    return lines


def _time(results: ComparisonResults) -> Figure | None:
    return _costs(results, "seconds_per_step", "time per step", duration)


def _memory(results: ComparisonResults) -> Figure | None:
    """Of devices only: the memory of a process on the CPU includes what earlier runs left there, and is not compared."""
    devices = {run.summary.hardware.device for run in results.runs if run.summary.hardware}
    if any(device.startswith("CPU") for device in devices):
        return None
    return _costs(results, "peak_memory_bytes", "peak memory", size)


def _costs(results: ComparisonResults, what: str, name: str, show: Callable[[float], str]) -> Figure | None:
    """Bars from zero, followed by the ratio to plain fine-tuning."""
    costs = {method.name: cost(results, method.name, what) for method in results.methods}
    known = {method: each for method, each in costs.items() if each is not None}
    if not known:
        return None
    figure = new_figure(0.55 + 0.34 * len(known))
    axes = figure.add_subplot()
    short = titles(results)
    axes.barh(range(len(known)), [each.mean for each in known.values()], height=0.7, color=[colour(m) for m in known])
    for row, (method, each) in enumerate(known.items()):
        ratio = f"  {each.ratio:.2f}×" if each.ratio is not None and method != REFERENCE else ""
        axes.annotate(
            f"{show(each.mean)}{ratio}", (each.mean, row), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=MEDIUM,
        )  # fmt: skip
    axes.set_yticks(range(len(known)), [short[method] for method in known])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.75 * max(each.mean for each in known.values()))
    axes.set_xticks([])
    axes.set_xlabel(name, fontsize=LARGE, loc="left")
    bare(axes, grid=None)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=MEDIUM)
    return figure
