"""The charts of a stream: its matrices as heat maps, and curves over its stages."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftp_hf.common.figures import is_share, metric_named
from ftp_hf.compare.evidence.stream_measures import Matrix, average_after_stages, first_stage
from ftp_hf.compare.evidence.stream_results import StreamResults

from .pictures import Drawn
from .style import (
    GREY,
    MEDIUM,
    SMALL,
    axis_title,
    bare,
    draw_band,
    in_units,
    new_figure,
    remove_spare,
    without_formulas,
)

__all__ = ["drawn"]

_MATRIX = "mean over orders and seeds. Above the diagonal are stages that were not trained yet."
_ROLLED_BACK = " An arrow marks the rows of stages that were rolled back, and how often: they have the figures of the model before."
_COLUMNS = 2
_MOST_NUMBERS = 10
"""Stages of a matrix whose figures are written into it."""


def drawn(results: StreamResults) -> Iterator[Drawn]:
    """The charts that there are figures for."""
    sequential = results.sequential
    if not sequential:
        return
    spread = "mean over orders and seeds, with a band of one standard deviation"
    yield (
        "first-stage",
        "What is left of the first stage",
        f"Its test set after each stage: {spread}.",
        _draw_curves(results, sequential, first_stage),
    )
    yield (
        "average",
        "How well the model does on the stages so far",
        f"After each stage, the mean over the test sets of all stages until then: {spread}. Dashed: all stages at once.",
        _draw_curves(results, sequential, average_after_stages, joint=True),
    )
    for name, metric in results.retained_metrics.items():
        yield (
            f"retained-{name.lower()}",
            f"What the model could do before: {name}",
            f"Before any stage (0) and after each: {spread}.",
            _draw_retained(results, name, metric),
        )
    for start in range(0, len(sequential), _COLUMNS * 2):
        methods = sequential[start : start + _COLUMNS * 2]
        titles = ", ".join(_title(results, method) for method in methods)
        yield (
            f"matrix-{start // (_COLUMNS * 2) + 1}",
            f"Every stage after every stage: {titles}",
            f"A row after each stage, a column for each test set, in the order of the stream: {axis_title(results.metric)}, {_MATRIX}"
            + _ROLLED_BACK * any(check.rolled_back for run in results.runs for check in run.checks),
            _draw_matrices(results, methods),
        )  # fmt: skip


def _draw_curves(
    results: StreamResults, methods: Sequence[str], curve: Callable[[Matrix], list[float]], *, joint: bool = False
) -> Figure:
    figure = new_figure(3.6)
    axes = figure.subplots()
    for method in methods:
        _draw_line(axes, results, method, [curve(run.matrix) for run in results.of(method)], results.metric, 1)
    if joint:
        for method in (each.name for each in results.methods if each.name not in methods):
            level = in_units(results.metric, statistics.fmean(results.measured(method, "final average").values()))
            axes.axhline(level, color=GREY, linewidth=1.2, linestyle="--", label=_title(results, method), zorder=1)
    _finish(figure, axes, results.metric, len(results.stages), 1)
    return figure


def _draw_retained(results: StreamResults, name: str, metric: str) -> Figure:
    figure = new_figure(3.6)
    axes = figure.subplots()
    for method in (each.name for each in results.methods):
        runs = [run for run in results.of(method) if run.is_sequential and name in run.retained]
        if runs:
            _draw_line(axes, results, method, [run.retained[name] for run in runs], metric, 0)
    _finish(figure, axes, metric, len(results.stages), 0)
    return figure


def _draw_line(
    axes: Axes, results: StreamResults, method: str, curves: Sequence[Sequence[float]], metric: str, start: int
) -> None:
    found: dict[float, Sequence[float]] = dict(enumerate(zip(*curves, strict=True), start))
    draw_band(axes, method, found, metric, size=6).set_label(_title(results, method))


def _finish(figure: Figure, axes: Axes, metric: str, stages: int, start: int) -> None:
    axes.set_xticks(range(start, stages + 1))
    axes.set_xlabel("after stage", fontsize=MEDIUM)
    axes.set_ylabel(axis_title(metric), fontsize=MEDIUM)
    if metric_named(metric).less_is_better:
        axes.invert_yaxis()
    bare(axes)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=SMALL, handlelength=1.4, columnspacing=1)


def _draw_matrices(results: StreamResults, methods: Sequence[str]) -> Figure:
    rows = -(-len(methods) // _COLUMNS)
    figure = new_figure(0.5 + 2.5 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    means = {method.name: _mean([run.matrix for run in results.of(method.name)]) for method in results.methods}
    every = [in_units(results.metric, value) for mean in means.values() for row in mean for value in row]
    least, most = min(every), max(every)
    ends = least, most if most > least else least + 1.0
    image = None
    for axes, method in zip(grid.flat, methods, strict=False):
        scaled = [[in_units(results.metric, value) for value in row] for row in means[method]]
        palette = "YlGnBu" if results.sign > 0 else "YlGnBu_r"
        image = axes.imshow(scaled, cmap=palette, vmin=ends[0], vmax=ends[1])
        _label(axes, results, scaled, ends, _rolled_back(results, method, len(scaled)))
        axes.set_title(_title(results, method), fontsize=MEDIUM, loc="left", pad=4)
    remove_spare(grid, len(methods))
    if image is not None:
        bar = figure.colorbar(image, ax=list(grid.flat)[: len(methods)], shrink=0.7, aspect=30)
        bar.set_label(axis_title(results.metric), fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)
    return figure


def _label(axes: Axes, results: StreamResults, scaled: Matrix, ends: tuple[float, float], marks: Sequence[str]) -> None:
    count = len(scaled)
    names = results.orders[0] if len(results.orders) == 1 and count <= 5 else [str(place + 1) for place in range(count)]
    short = [name if len(name) <= 8 else f"{name[:7]}…" for name in names]
    axes.set_xticks(range(count), [without_formulas(name) for name in short], fontsize=SMALL - 2)
    axes.set_yticks(
        range(count),
        [f"{without_formulas(name)}{mark}" for name, mark in zip(short, marks, strict=True)],
        fontsize=SMALL - 2,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if count > _MOST_NUMBERS:
        return
    for row, values in enumerate(scaled):
        for column, value in enumerate(values):
            share = (value - ends[0]) / (ends[1] - ends[0])
            dark = share > 0.55 if results.sign > 0 else share < 0.45
            text = f"{value:.0f}" if is_share(results.metric) else f"{value:.2g}"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=SMALL if count <= 5 else 5.5,
                color="white" if dark else "black",
            )  # fmt: skip


def _rolled_back(results: StreamResults, method: str, count: int) -> list[str]:
    """By stage, how many of a method's streams rolled it back, as it is marked."""
    streams = [[check.rolled_back for check in run.checks] for run in results.of(method) if run.checks]
    times = [sum(stage) for stage in zip(*streams, strict=True)] or [0] * count
    return ["" if not often else f" ↩{often}/{len(streams)}" if len(streams) > 1 else " ↩" for often in times]


def _mean(matrices: Sequence[Matrix]) -> list[list[float]]:
    return [[statistics.fmean(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def _title(results: StreamResults, method: str) -> str:
    return without_formulas(results.method(method).title)
