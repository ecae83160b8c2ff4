"""The chart of what a learning rate costs: where a line is flat, a wrong rate does no harm."""

import itertools
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ftp_hf.common.figures import metric_named, show
from ftp_hf.compare.evidence.measures import by_seed, data_sets, metric_of, pretrained_figure, set_name, tested
from ftp_hf.compare.evidence.rates import at_lengths_and_rates, epochs
from ftp_hf.compare.evidence.results import ComparisonResults

from .style import (
    GREY,
    MEDIUM,
    SMALL,
    axis_title,
    bare,
    draw_band,
    draw_legend,
    in_units,
    new_figure,
    remove_spare,
    without_formulas,
)

__all__ = ["draw_rates"]

_TITLES = {"id": "ID", "ood": "OOD mean", "corrupted": "corrupted mean"}
_FEW = 4
"""Rates that have room beside each other."""
_FAR = 2
"""Heights of a panel."""
_MANY, _FEW_ERRORS = 200, 10
"""Percent: above the first, usual figures would be one line; below the second, an axis stays linear."""


def draw_rates(results: ComparisonResults) -> Figure | None:
    """
    A panel for each kind of data, and for each length where several were tried: the mean of each method at each learning rate,
    with a band of its standard deviation, and a line where the pre-trained model was. `None` unless a method was evaluated at
    several rates or lengths.
    """
    lengths = at_lengths_and_rates(results)
    kinds = [kind for kind in tested(results) if data_sets(results, kind.split("/")[0])]
    if not lengths or not kinds:
        return None
    panels = list(itertools.product(kinds, lengths))
    columns = max(2, len(lengths))
    rows = -(-len(panels) // columns)
    figure = new_figure(1.0 + 2.0 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey="row" if len(lengths) > 1 else False, squeeze=False)
    drawn: dict[str, Line2D] = {}
    for axes, (kind, length) in zip(grid.flat, panels, strict=False):
        drawn |= _draw_kind(axes, results, lengths[length], kind)
    # The range of a panel is known only when all of its row are drawn.
    for number, (axes, (kind, length)) in enumerate(zip(grid.flat, panels, strict=False)):
        row, column = divmod(number, columns)
        title = shown = _shown(results, kind) + ", log" * _compress(axes, metric_of(results, kind))
        if (before := pretrained_figure(results, kind)) is not None:
            metric = metric_of(results, kind)
            _draw_before(axes, in_units(metric, before), show(before, metric))
        if length is not None:  # no panel has the room for both
            title = epochs(length) if row == 0 else ""
            axes.set_ylabel(shown if column == 0 else "", fontsize=SMALL)
        axes.set_title(title, fontsize=SMALL, loc="left", pad=4)
    remove_spare(grid, len(panels))
    figure.supxlabel("learning rate", fontsize=MEDIUM)
    draw_legend(figure, results, drawn)
    return figure


def _draw_kind(
    axes: Axes, results: ComparisonResults, rates: Mapping[float, ComparisonResults], kind: str
) -> dict[str, Line2D]:
    metric = metric_of(results, kind)
    drawn = {}
    for method in (method.name for method in results.methods):
        found = {rate: list(by_seed(there, method, kind).values()) for rate, there in rates.items()}
        found = {rate: values for rate, values in found.items() if values}
        if found:
            drawn[method] = draw_band(axes, method, found, metric, size=5)
    axes.set_xscale("log")
    axes.set_xticks(
        list(rates),
        [f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-") for rate in rates],
        rotation=45 * (len(rates) > _FEW),
    )
    axes.minorticks_off()
    axes.yaxis.set_inverted(metric_named(metric).less_is_better)
    bare(axes)
    axes.tick_params(labelsize=SMALL)
    return drawn


def _shown(results: ComparisonResults, kind: str) -> str:
    """`"OOD mean: accuracy (%)"`."""
    title = without_formulas(_TITLES.get(kind, set_name(kind)))
    return f"{title}: {axis_title(metric_of(results, kind))}"


def _compress(axes: Axes, metric: str) -> bool:
    """
    Make an axis logarithmic where there are several times as many errors as words, as of a model that answers a word with
    sentences: beside a method that learned nothing, all others would be one line.
    """
    if not metric_named(metric).is_share or max(axes.get_ylim()) < _MANY:
        return False
    axes.set_yscale("symlog", linthresh=_FEW_ERRORS)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    return True


def _draw_before(axes: Axes, level: float, text: str) -> None:
    """A line at the pre-trained model's figure; where that is so far away that all else would be one line, a text instead."""
    # In the direction in which it is drawn.
    bottom, top, at = axes.yaxis.get_transform().transform([*axes.get_ylim(), level])
    up = (at - bottom) / (top - bottom)
    if -_FAR < up < 1 + _FAR:
        axes.axhline(level, color=GREY, linewidth=1.2, linestyle="--", zorder=1)
        return
    place, va = (0.03, "bottom") if up < 0 else (0.97, "top")
    arrow = "↓" if up < 0 else "↑"
    axes.text(
        0.02, place, f"before: {text} {arrow}", transform=axes.transAxes, color=GREY, fontsize=SMALL, ha="left", va=va
    )
