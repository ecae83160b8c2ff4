"""Figures as a report prints them: accuracies in percent with one decimal, differences in points, ± sd, [interval]."""

import math
from collections.abc import Collection

from ftp_hf.common.figures import MINUS, SPACE, is_share, show, signed

from .statistics import PairedDifference

__all__ = ["bound", "difference", "interval", "mean", "percent", "points", "span"]


def points(metric: str) -> str:
    """The unit of differences, with a space before it; metrics that are no shares have none."""
    return f"{SPACE}points" if is_share(metric) else ""


def interval(paired: PairedDifference, metric: str) -> str:
    """`"[−0.2, +0.8]"`; empty where too few seeds leave it infinite."""
    if not paired.is_known:
        return ""
    ends = [_signed(end, paired, metric) for end in (paired.low, paired.high)]
    return f"[{ends[0]},{SPACE}{ends[1]}]"


def mean(paired: PairedDifference, metric: str) -> str:
    """`"+0.3"`."""
    return _signed(paired.mean, paired, metric)


def difference(paired: PairedDifference | None, metric: str) -> str:
    """`"+0.3 [−0.2, +0.8]"`; empty without a difference."""
    return "" if paired is None else f"{mean(paired, metric)} {interval(paired, metric)}".strip()


def percent(relative: float) -> str:
    """A change in percent: `"+1.5"`, `"−0.3"`."""
    return f"{relative:+.1f}".replace("-", MINUS)


def span(values: Collection[float]) -> str:
    """`"2"`, or where they differ `"1–2"`; empty without values."""
    ends = dict.fromkeys(f"{end:.3g}" for end in (min(values), max(values))) if values else ()
    return "\N{EN DASH}".join(ends)


def bound(value: float, metric: str) -> str:
    """A bound, rounded up: what is within 0.34 points is not within 0.3."""
    if not is_share(metric):
        return show(value, metric)
    return f"{math.ceil(round(1000 * value, 6)) / 10:.1f}"


def _signed(value: float, paired: PairedDifference, metric: str) -> str:
    """The mean or an end of an interval, which must not be printed as zero where the interval leaves zero out."""
    text = signed(value, metric)
    leaves_zero_out = paired.low < paired.high and (paired.low > 0 or paired.high < 0)
    if not leaves_zero_out or float(text.replace(MINUS, "-")):
        return text
    return f"{'+' if value > 0 else MINUS}{100 * abs(value):.1g}"
