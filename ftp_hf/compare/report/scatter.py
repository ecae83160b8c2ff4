"""The chart of what each method trades: accuracy in distribution against accuracy out of it."""

import math
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ftp_hf.common.figures import is_share
from ftp_hf.compare.evidence.differences import wise_curve
from ftp_hf.compare.evidence.measures import CURVE, by_seed, possible, robust_kind, sign
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.compare.evidence.statistics import pareto_front

from .labels import Box, place
from .style import GREY, LARGE, MEDIUM, axis_title, bare, colour, deviation, draw_chance, mark, new_figure, titles

__all__ = ["draw_scatter", "mean_curve"]

_MARGIN = 0.12
_LEAST_SPAN = 0.01
# A method that is this much further from the median than others are, and by some points, would make all others one dot.
_FAR, _FAR_POINTS = 6, 0.04
_FEW = 4


def draw_scatter(results: ComparisonResults) -> Figure | None:
    """
    Mean and standard deviation of each method over its seeds, each seed, WiSE-FT's curve, and the Pareto front of the means
    ringed. `None` where no run was evaluated both in and out of distribution, or all have diverged.
    """
    kind, scale = robust_kind(results) or "ood", 100 if is_share(results.metric) else 1
    robust = {"ood": "OOD", "corrupted": "corrupted"}[kind]
    seeds = {method.name: _points(results, method.name, kind, scale) for method in results.methods}
    seeds = {method: points for method, points in seeds.items() if points}
    means = {method: _mean(points) for method, points in seeds.items()}
    if not any(math.isfinite(x + y) for x, y in means.values()):
        return None
    figure = new_figure(4.7)
    axes = figure.add_subplot()
    limits = (scale * possible(results)[0], scale * possible(results)[1])
    short = titles(results)
    better = sign(results, "id")
    front = pareto_front({method: (better * x, better * y) for method, (x, y) in means.items() if math.isfinite(x + y)})
    far = [method for method in _far(means, scale) if method not in front]
    if curve := [(scale * x, scale * y) for x, y in mean_curve(results)]:
        axes.plot(*zip(*curve, strict=True), "-", color=colour(CURVE), linewidth=1.5, zorder=2)
    for method, points in seeds.items():
        x, y = zip(*points, strict=True)
        (small,) = axes.plot(
            x, y, mark(method), color=colour(method), alpha=0.35, markersize=5, markeredgewidth=0, zorder=3
        )
        small.set_gid(f"{short[method]}, a seed")
        mean = axes.errorbar(
            *means[method],
            xerr=[[end] for end in deviation(x, limits)],
            yerr=[[end] for end in deviation(y, limits)],
            fmt=mark(method),
            color=colour(method),
            markersize=9,
            elinewidth=1.2,
            zorder=4,
        )
        mean.lines[0].set_gid(f"{short[method]}, mean")
    for method in front:
        axes.plot(*means[method], "o", markersize=17, markerfacecolor="none", markeredgecolor="#222222", zorder=5)
    axes.set_xlabel(f"ID test {axis_title(results.metric)}", fontsize=LARGE)
    axes.set_ylabel(f"{robust} mean {axis_title(results.metric)}", fontsize=LARGE)
    bare(axes)
    every = [point for method, points in seeds.items() if method not in far for point in points]
    axes.set_xlim(_limits([x for x, _ in every], scale, limits))
    axes.set_ylim(_limits([y for _, y in every], scale, limits))
    draw_chance(axes, results, both=True)
    if better < 0:  # up and to the right is better in all of them
        axes.invert_xaxis()
        axes.invert_yaxis()
    labels = {short[name]: (means[name], colour(name)) for name in means if name not in far}
    _label(
        figure,
        axes,
        labels,
        [(*point, *point) for point in every]
        + [bar for name in means for bar in _bars(seeds[name], limits) if all(map(math.isfinite, bar))],
    )
    for axis in (axes.xaxis, axes.yaxis):
        _name_what_is_possible(axis, limits)
    if far:
        names = "\n".join(f"{short[name]}: {means[name][0]:.1f}, {means[name][1]:.1f}" for name in far)
        axes.set_title(f"outside the frame (ID, {robust}):\n{names}", fontsize=MEDIUM, color=GREY, loc="left")
    return figure


def mean_curve(results: ComparisonResults) -> list[tuple[float, float]]:
    """WiSE-FT's curve, the mean over the seeds that have as many points as the first one."""
    curves = [curve for seed in results.seeds if (curve := wise_curve(results, seed))]
    whole = [curve for curve in curves if len(curve) == len(curves[0])]
    return [_mean(points) for points in zip(*whole, strict=True)]


def _points(results: ComparisonResults, method: str, kind: str, scale: int) -> list[tuple[float, float]]:
    identity, robust = by_seed(results, method, "id"), by_seed(results, method, kind)
    return [(scale * identity[seed], scale * robust[seed]) for seed in identity if seed in robust]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points)


def _bars(points: Sequence[tuple[float, float]], limits: tuple[float, float]) -> list[Box]:
    """The two bars of a method."""
    (x, y), across, up = _mean(points), *(deviation(values, limits) for values in zip(*points, strict=True))
    return [(x - across[0], y, x + across[1], y), (x, y - up[0], x, y + up[1])]


def _far(means: dict[str, tuple[float, float]], scale: int) -> list[str]:
    """The methods that are far from the rest, in ID or in OOD; those with a seed that diverged always are."""
    placed = {method: point for method, point in means.items() if all(map(math.isfinite, point))}
    far = means.keys() - placed.keys()
    once = {*placed.values()}  # a small learning rate may have the same runs as plain fine-tuning
    for axis in (0, 1) if len(once) >= _FEW else ():
        middle = statistics.median(point[axis] for point in once)
        usual = max(_FAR * statistics.median(abs(point[axis] - middle) for point in once), _FAR_POINTS * scale)
        far |= {method for method, point in placed.items() if abs(point[axis] - middle) > usual}
    return [method for method in means if method in far]


def _limits(values: Sequence[float], scale: int, possible: tuple[float, float]) -> tuple[float, float]:
    """
    The range of the methods, with a margin for their marks, which alone may go beyond what is possible. WiSE-FT's curve does
    not count: its ends may be far away.
    """
    low, high = min(values), max(values)
    span = max(high - low, scale * _LEAST_SPAN)
    middle, margin = (low + high) / 2, span * _MARGIN
    return max(middle - span / 2, possible[0]) - margin, min(middle + span / 2, possible[1]) + margin


def _name_what_is_possible(axis: Axis, possible: tuple[float, float]) -> None:
    """No ticks where an axis goes on only for marks at its end."""
    low, high = sorted(axis.get_view_interval())
    if low < possible[0] or high > possible[1]:
        least, most = max(low, possible[0]), min(high, possible[1])
        axis.set_ticks([tick for tick in axis.get_ticklocs() if least <= round(tick, 9) <= most])


def _label(
    figure: Figure,
    axes: Axes,
    labels: dict[str, tuple[tuple[float, float], str]],
    others: Sequence[Box],
) -> None:
    """Each method's name beside its mean, with a thin line to it."""
    figure.canvas.draw()  # only then are sizes known
    frame = axes.get_window_extent()
    corner = (frame.x0, frame.y0)

    def on_page(point: tuple[float, float]) -> tuple[float, float]:
        x, y = axes.transData.transform(point)
        return x - corner[0], y - corner[1]

    anchors = [on_page(point) for point, _ in labels.values()]
    texts = [
        axes.text(0, 0, name, fontsize=MEDIUM, color=colour, ha="center", va="center_baseline", zorder=6)
        for name, (_, colour) in labels.items()
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width * 1.05, extent.height * 1.05) for extent in extents]
    places = place(
        anchors, sizes, (frame.width, frame.height), [(*on_page(box[:2]), *on_page(box[2:])) for box in others]
    )
    for text, extent, anchor, (x, y) in zip(texts, extents, anchors, places, strict=True):
        text.set_position(tuple(axes.transData.inverted().transform((x + corner[0], y + corner[1]))))
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        text.set_in_layout(False)
        nearest = (
            min(max(anchor[0], x - extent.width / 2), x + extent.width / 2),
            min(max(anchor[1], y - extent.height / 2), y + extent.height / 2),
        )
        ends = axes.transData.inverted().transform(
            [(end[0] + corner[0], end[1] + corner[1]) for end in (anchor, nearest)]
        )
        axes.plot(*ends.T, "-", color=GREY, linewidth=0.8, zorder=2.5)
