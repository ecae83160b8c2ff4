"""The chart of what the pre-trained model could do before, and what each method has left of it."""

import statistics

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftp_hf.common.figures import metric_named
from ftp_hf.compare.evidence.measures import by_seed, metric_of, possible, pretrained_figure, retained, set_name
from ftp_hf.compare.evidence.results import ComparisonResults

from .style import (
    GREY,
    MEDIUM,
    SMALL,
    axis_title,
    bare,
    colour,
    deviation,
    in_units,
    mark,
    new_figure,
    titles,
    without_formulas,
)

__all__ = ["draw_retained"]


def draw_retained(results: ComparisonResults) -> Figure | None:
    """
    A panel for each retained set: the mean of each method with its standard deviation, its seeds, and a line where the
    pre-trained model was. Better is to the right in all of them. `None` where nothing was evaluated on retained data.
    """
    kinds = retained(results)
    values = {kind: {method.name: by_seed(results, method.name, kind) for method in results.methods} for kind in kinds}
    if not any(any(of_kind.values()) for of_kind in values.values()):
        return None
    figure = new_figure(0.5 + (0.65 + 0.3 * len(results.methods)) * len(kinds))
    for axes, kind in zip(figure.subplots(len(kinds), squeeze=False)[:, 0], kinds, strict=True):
        _draw_set(axes, results, kind, values[kind])
    return figure


def _draw_set(axes: Axes, results: ComparisonResults, kind: str, values: dict[str, dict[int, float]]) -> None:
    metric = metric_of(results, kind)
    least, most = (in_units(metric, end) for end in possible(results, kind))
    drawn = [method for method in values if values[method]]
    for row, method in enumerate(drawn):
        seeds = [in_units(metric, value) for value in values[method].values()]
        axes.plot(seeds, [row] * len(seeds), mark(method), color=colour(method), alpha=0.35, markeredgewidth=0)
        axes.errorbar(
            statistics.fmean(seeds), row, xerr=[[end] for end in deviation(seeds, (least, most))], fmt=mark(method),
            color=colour(method), markersize=8,
        )  # fmt: skip
    short = titles(results)
    axes.set_yticks(range(len(drawn)), [short[method] for method in drawn], fontsize=MEDIUM)
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.set_title(
        without_formulas(f"{set_name(kind)}: {axis_title(metric)}"),
        fontsize=MEDIUM,
        loc="left",
        pad=4,
    )
    if (before := pretrained_figure(results, kind)) is not None:
        axes.axvline(in_units(metric, before), color=GREY, linewidth=1.2, linestyle="--", zorder=1)
        axes.annotate(
            "pre-trained", (in_units(metric, before), 1), xycoords=("data", "axes fraction"), xytext=(2, -2), color=GREY,
            textcoords="offset points", fontsize=SMALL, ha="left", va="top",
        )  # fmt: skip
    if metric_named(metric).less_is_better:
        axes.invert_xaxis()
    bare(axes, grid="x")
    axes.tick_params(axis="y", length=0)
