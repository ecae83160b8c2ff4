"""What the charts of a comparison share: a colour and a mark for each method, sizes of letters, bare axes."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ftp_hf.common.figures import is_share, metric_named
from ftp_hf.compare.evidence.measures import chance
from ftp_hf.compare.evidence.results import ComparisonResults

from .blocks import Spot

__all__ = [
    "GREY",
    "GRID",
    "LARGE",
    "MEDIUM",
    "SMALL",
    "WIDTH",
    "axis_title",
    "bare",
    "colour",
    "deviation",
    "draw_band",
    "draw_chance",
    "draw_legend",
    "in_units",
    "mark",
    "new_figure",
    "remove_spare",
    "spots",
    "titles",
    "without_formulas",
]

# As wide as a column of text: on a phone a point is about a pixel.
WIDTH = 5.2
LARGE, MEDIUM, SMALL = 13, 11, 10
GREY, GRID = "#777777", "#dddddd"

# Told apart by people with any colour vision, together with the marks; FTP and plain fine-tuning as in all pictures.
_STYLES = {
    "plain": ("#b5523b", "X"),
    "small-lr": ("#e39b86", "<"),
    "linear-probe": ("#7f7f7f", "v"),
    "lp-ft": ("#333333", "^"),
    "l2-sp": ("#e69f00", "s"),
    "wise-ft": ("#009e73", "P"),
    "fapm": ("#8fbf3f", "<"),
    "average": ("#44aa99", ">"),
    "tpgm": ("#7a5bb0", "D"),
    "spd": ("#c2a500", "p"),
    "mofo": ("#4d7c0f", "<"),
    "ewc": ("#8e2f5c", ">"),
    "kl": ("#d55e00", "<"),
    "ldifs": ("#5b8c5a", ">"),
    "flow": ("#4b0082", "8"),
    "lp-flow": ("#b07aa1", "H"),
    "lora": ("#cc79a7", "h"),
    "lora-merged": ("#9e5a86", "d"),
    "corda": ("#aa4499", "H"),
    "osf": ("#117733", "8"),
    "kappatune": ("#882255", "v"),
    "ftp": ("#1f6f8b", "o"),
    "ftp-first": ("#0b3c49", "D"),
    "replay": ("#009e73", "P"),
    "joint": ("#333333", "^"),
    "ftp-share": ("#0b3c49", "D"),
    "lora+ftp": ("#56b4e9", "*"),
    "lora+ftp-share": ("#2f4b9c", ">"),
    "lora+factors": ("#8c510a", "d"),
}
_LONGEST = 14


def colour(method: str) -> str:
    """The colour of a method's marks, lines and bars."""
    return _STYLES.get(method, (GREY, "o"))[0]


def mark(method: str) -> str:
    """The shape of a method's marks."""
    return _STYLES.get(method, (GREY, "o"))[1]


def titles(results: ComparisonResults) -> dict[str, str]:
    """What the methods are called where there is little room: by their names, if their titles are too long."""
    return {
        method.name: without_formulas(method.title if len(method.title) <= _LONGEST else method.name)
        for method in results.methods
    }


def axis_title(metric: str) -> str:
    """What a metric is called on an axis, with its unit."""
    return metric.replace("_", " ") + (" (%)" if is_share(metric) else "")


def in_units(metric: str, value: float) -> float:
    """A value of a metric in the units of its axis."""
    return 100 * value if is_share(metric) else value


def deviation(values: Sequence[float], possible: tuple[float, float]) -> tuple[float, float]:
    """How far a bar of one standard deviation reaches below and above the mean, within what is possible."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return 0.0, 0.0
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    return min(sd, mean - possible[0]), min(sd, possible[1] - mean)


def draw_band(axes: Axes, method: str, values: Mapping[float, Sequence[float]], metric: str, *, size: int) -> Line2D:
    """A line through the means of a method at each place, with a band of one standard deviation."""
    possible = metric_named(metric).possible
    means = [statistics.fmean(there) for there in values.values()]
    ends = [deviation(there, possible) for there in values.values()]
    (line,) = axes.plot(
        list(values), [in_units(metric, mean) for mean in means], "-", marker=mark(method), color=colour(method),
        markersize=size,
    )  # fmt: skip
    axes.fill_between(
        list(values),
        [in_units(metric, mean - low) for mean, (low, _) in zip(means, ends, strict=True)],
        [in_units(metric, mean + high) for mean, (_, high) in zip(means, ends, strict=True)],
        color=colour(method),
        alpha=0.15,
        linewidth=0,
    )
    return line


def draw_legend(figure: Figure, results: ComparisonResults, drawn: Mapping[str, Line2D]) -> None:
    """Above the chart: where curves end close together, names at their ends would be far from them."""
    short = titles(results)
    figure.legend(
        handles=list(drawn.values()), labels=[short[method] for method in drawn], loc="outside upper left", ncols=3,
        frameon=False, fontsize=MEDIUM, handlelength=1.2, columnspacing=1,
    )  # fmt: skip


def draw_chance(axes: Axes, results: ComparisonResults, *, both: bool = False) -> None:
    """
    A dotted line at the accuracy of guessing, where it is in the frame or near below it, and where the classes are known. To
    be drawn last: it may widen the frame. With `both`, along x as well.
    """
    if (guessed := chance(results)) is None:
        return
    level = in_units(results.metric, guessed)
    for name in ("y", "x") if both else ("y",):
        low, high = getattr(axes, f"get_{name}lim")()
        if level < low - (high - low) / 2 or level > high:
            continue
        getattr(axes, f"set_{name}lim")(min(low, level - 0.04 * (high - low)), high)
        (axes.axhline if name == "y" else axes.axvline)(level, color=GREY, linewidth=1.2, linestyle=":", zorder=1)
        place, ha = ((1, level), "right") if name == "y" else ((level, 1), "left")
        axes.annotate(
            f"chance {level:.1f}", place, xycoords=("axes fraction", "data") if name == "y" else ("data", "axes fraction"),
            xytext=(0 if name == "y" else 3, 2 if name == "y" else -2), textcoords="offset points", color=GREY,
            fontsize=SMALL, ha=ha, va="bottom" if name == "y" else "top",
        )  # fmt: skip


def new_figure(height: float) -> Figure:
    """A figure of the common width, and this height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def remove_spare(grid: np.ndarray, count: int) -> None:
    """Remove the axes of a grid that nothing is drawn into: at most the last one, on the right."""
    for spare in grid.flat[count:]:
        spare.remove()
        # The one above it is now the lowest of its column, and needs labels of its own.
        for axes in grid[max(len(grid) - 2, 0)]:
            axes.tick_params(labelbottom=True)


def bare(axes: Axes, *, grid: Literal["both", "x"] | None = "both") -> None:
    """Axes without a frame, with a grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=MEDIUM)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def without_formulas(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def spots(figure: Figure) -> list[Spot]:
    """The points of a drawn chart that have a name (a `gid`), with their figures."""
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            for x, y in np.asarray(line.get_xydata(), float) if line.get_gid() else ():
                across, up = figure.transFigure.inverted().transform(axes.transData.transform((x, y)))
                if 0 < across < 1 and 0 < up < 1:
                    found.append(Spot(float(across), float(1 - up), f"{line.get_gid()}: {x:.4g}, {y:.4g}"))
    return found
