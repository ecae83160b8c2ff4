"""Figures as people read them: shares in percent with one decimal, differences with their sign, durations, sizes, tables."""

import math
import statistics
from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "MINUS",
    "SPACE",
    "change",
    "duration",
    "is_share",
    "main_metric",
    "mean_and_sd",
    "show",
    "signed",
    "size",
    "table",
]

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


def main_metric(names: Iterable[str]) -> str | None:
    """Of the names of metrics the one to go by: accuracy where it is there, the loss where nothing else is."""
    metrics = list(names)
    telling = [name for name in metrics if name != "loss"]
    return "accuracy" if "accuracy" in telling else next(iter([*telling, *metrics]), None)


def is_share(metric: str) -> bool:
    """Whether a metric is in [0, 1] and shown in percent."""
    return any(word in metric for word in ("accuracy", "f1", "precision", "recall"))


def show(value: float, metric: str) -> str:
    """A figure as it is printed: accuracies and their like in percent."""
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.4g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table whose first `left` columns are text and whose others are figures."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def mean_and_sd(values: Collection[float], metric: str) -> str:
    """`"97.4 ± 0.4"`; without spaces to break at, as a phone's column is narrow. `"nan"` if one is not finite."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    if len(values) == 1 or not math.isfinite(mean):
        return show(mean, metric)
    return f"{show(mean, metric)}{SPACE}±{SPACE}{show(statistics.stdev(values), metric)}"


def signed(value: float, metric: str) -> str:
    """`"+0.3"`, `"−1.2"`, and what rounds to zero without a sign."""
    text = show(abs(value), metric)
    return text if math.isnan(value) or not float(text) else ("+" if value > 0 else MINUS) + text


def change(ratio: float) -> str:
    """A ratio as a change in percent: `"+4 %"`, `"−12 %"`, `"±0 %"`."""
    if not math.isfinite(ratio):
        return "nan"
    percent = round(100 * (ratio - 1))
    return f"{'+' if percent > 0 else MINUS if percent < 0 else '±'}{abs(percent):,}{SPACE}%"


def duration(seconds: float) -> str:
    """`"35 ms"`, `"1.20 s"`, `"12.0 min"`, `"3.2 h"`."""
    if seconds < 1:
        return f"{1000 * seconds:.3g}{SPACE}ms"
    if seconds < 120:
        return f"{seconds:.3g}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 7200 else f"{seconds / 3600:.1f}{SPACE}h"


def size(count: float) -> str:
    """Bytes as `"1.25 GiB"` or `"3.1 MiB"`."""
    return f"{count / 2**30:.2f}{SPACE}GiB" if count >= 2**30 else f"{count / 2**20:.1f}{SPACE}MiB"
