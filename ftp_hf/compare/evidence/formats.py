"""Figures as a report prints them: accuracies in percent with one decimal, differences in points, ± sd, [interval]."""

import math
import statistics
from collections.abc import Collection

from ftp_hf.runs.summary import is_share, show

from .statistics import PairedDifference

__all__ = ["bound", "change", "difference", "duration", "interval", "mean_and_sd", "points", "signed", "size"]

_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"


def points(metric: str) -> str:
    """The unit of differences, with a space before it; metrics that are no shares have none."""
    return f"{_SPACE}points" if is_share(metric) else ""


def mean_and_sd(values: Collection[float], metric: str) -> str:
    """`"97.4 ± 0.4"`; without spaces to break at, as a phone's column is narrow."""
    if not values:
        return ""
    mean = show(statistics.fmean(values), metric)
    return mean if len(values) == 1 else f"{mean}{_SPACE}±{_SPACE}{show(statistics.stdev(values), metric)}"


def signed(value: float, metric: str) -> str:
    """`"+0.3"`, `"−1.2"`, and what rounds to zero without a sign."""
    text = show(abs(value), metric)
    return text if not float(text) else ("+" if value > 0 else _MINUS) + text


def interval(known: PairedDifference, metric: str) -> str:
    """`"[−0.2, +0.8]"`; nothing for the infinite one of a single seed."""
    if math.isinf(known.low):
        return ""
    ends = [_edge(end, metric) if known.is_clear else signed(end, metric) for end in (known.low, known.high)]
    return f"[{ends[0]},{_SPACE}{ends[1]}]"


def difference(known: PairedDifference | None, metric: str) -> str:
    """`"+0.3 [−0.2, +0.8]"`; nothing where there is none."""
    return "" if known is None else f"{signed(known.mean, metric)} {interval(known, metric)}".strip()


def bound(value: float, metric: str) -> str:
    """A bound, rounded up: what is within 0.34 points is not within 0.3."""
    if not is_share(metric):
        return show(value, metric)
    return f"{math.ceil(round(1000 * value, 6)) / 10:.1f}"


def change(ratio: float) -> str:
    """A ratio as a change in percent: `"+4 %"`, `"−12 %"`, `"±0 %"`."""
    percent = round(100 * (ratio - 1))
    return f"{'+' if percent > 0 else _MINUS if percent < 0 else '±'}{abs(percent):,}{_SPACE}%"


def duration(seconds: float) -> str:
    """`"35 ms"`, `"1.20 s"`, `"12.0 min"`, `"3.2 h"`."""
    if seconds < 1:
        return f"{1000 * seconds:.3g}{_SPACE}ms"
    if seconds < 120:
        return f"{seconds:.3g}{_SPACE}s"
    return f"{seconds / 60:.1f}{_SPACE}min" if seconds < 7200 else f"{seconds / 3600:.1f}{_SPACE}h"


def size(count: float) -> str:
    """Bytes as `"1.25 GiB"` or `"3.1 MiB"`."""
    return f"{count / 2**30:.2f}{_SPACE}GiB" if count >= 2**30 else f"{count / 2**20:.1f}{_SPACE}MiB"


def _edge(value: float, metric: str) -> str:
    """The end of an interval that leaves zero out, which must not be printed as zero."""
    text = signed(value, metric)
    return text if float(text.replace(_MINUS, "-")) else f"{'+' if value > 0 else _MINUS}{100 * abs(value):.1g}"
