"""Figures as people read them: what a metric means and how it is shown, differences with their sign, durations, sizes, tables."""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "BESIDE",
    "MINUS",
    "SPACE",
    "Metric",
    "change",
    "check_possible",
    "declare_metrics",
    "duration",
    "is_share",
    "main_metric",
    "mean_and_sd",
    "metric_named",
    "metric_title",
    "setting_text",
    "show",
    "signed",
    "size",
    "table",
    "together",
]

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Metric:
    """
    What is known of a metric beside its values.

    Args:
        name (`str`): as `compute_metrics` calls it, such as `"wer"`.
        less_is_better (`bool`, *optional*, defaults to `False`): as of an error or a loss.
        is_share (`bool`, *optional*, defaults to `False`): a share of something, of which 1 is the whole: shown in percent.
        least, most (`float`, *optional*): the values that are possible. Unless they are given, a share is not below 0,
            and above 1 only where less is better: there may be more errors than words.
    """

    name: str
    less_is_better: bool = False
    is_share: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is: with it, larger is better."""
        return -1 if self.less_is_better else 1

    def rank(self, value: float | None) -> float:
        """A value where larger is better; one that is not known, or not finite, is below all others."""
        return self.sign * value if value is not None and math.isfinite(value) else -math.inf

    @property
    def possible(self) -> tuple[float, float]:
        """The least and the largest value that there can be."""
        ends = (0.0 if self.is_share else -math.inf, 1.0 if self.is_share and not self.less_is_better else math.inf)
        return ends[0] if self.least is None else self.least, ends[1] if self.most is None else self.most


_KNOWN = {
    metric.name: metric
    for metric in (
        *(Metric(name, less_is_better=True, is_share=True) for name in ("wer", "cer")),
        *(
            Metric(name, less_is_better=True, least=0.0)
            for name in ("loss", "kl", "hidden_change", "mse", "mae", "rmse")
        ),
        Metric("perplexity", less_is_better=True, least=1.0),
        *(Metric(name, is_share=True) for name in ("exact_match", "mean_iou", "acc", "acc_norm")),
        *(Metric(name, least=-1.0, most=1.0) for name in ("spearman", "pearson", "matthews_correlation")),
    )
}
_ROUNDING = 1e-6
"""How far a figure may be beyond what is possible, as a correlation of 1 + 2e-16."""
_SHARES = ("accuracy", "f1", "precision", "recall")
BESIDE = ("loss", "kl", "hidden_change")
"""What says less than other metrics measured with it."""
_declared: dict[str, Metric] = {}


def declare_metrics(metrics: Iterable[Metric]) -> None:
    """
    Make metrics known, for as long as the process lasts: those of a task that is not the package's, or of its results. Known
    ones are passed over.

    Raises:
        ValueError: one of that name means something else.
    """
    for metric in metrics:
        if (known := metric_named(metric.name)) != metric and (
            metric.name in _declared or known != Metric(metric.name)
        ):
            raise ValueError(f"the metric {metric.name!r} is declared as {metric}, but is known as {known}: rename it")
        _declared[metric.name] = metric


def metric_named(name: str) -> Metric:
    """What is known of a metric; where nothing is, that more of it is better."""
    if name in _declared:
        return _declared[name]
    return _KNOWN.get(name) or Metric(name, is_share=any(word in name for word in _SHARES))


def check_possible(figures: Mapping[str, float], where: str) -> None:
    """
    Refuse figures, by metric, that their metrics cannot have, such as accuracies in percent: intervals end where a metric does.
    Figures that are not finite, of a model that diverged, pass. The error says `where`.

    Raises:
        ValueError: names the metric, its value, what is possible, and the remedy.
    """
    for name, value in figures.items():
        metric = metric_named(name)
        least, most = metric.possible
        if not math.isfinite(value) or least - _ROUNDING <= value <= most + _ROUNDING:
            continue
        ends = [f"{word} {end:g}" for word, end in (("at least", least), ("at most", most)) if math.isfinite(end)]
        remedy = "correct what computes it, or declare what it is as a Metric with another name"
        if metric.is_share and value > most:
            remedy = f"it is a share of 1, so return {value / 100:g} if this is in percent"
        raise ValueError(f"{where}: {name} is {value:g}, but has to be {together(ends)}: {remedy}")


def main_metric(names: Iterable[str]) -> str | None:
    """Of the names of metrics the one to go by: accuracy where it is there, the loss where nothing else is."""
    metrics = list(names)
    telling = [name for name in metrics if name not in BESIDE]
    return "accuracy" if "accuracy" in telling else next(iter([*telling, *metrics]), None)


def is_share(metric: str) -> bool:
    """Whether a metric is shown in percent."""
    return metric_named(metric).is_share


def metric_title(name: str) -> str:
    """What figures are of, their unit, and which way is better: `"accuracy in %, more is better"`."""
    metric = metric_named(name)
    way = "less" if metric.less_is_better else "more"
    return f"{name.replace('_', ' ')}{' in %' * metric.is_share}, {way} is better"


def show(value: float, metric: str) -> str:
    """A figure as it is printed: accuracies and the like in percent."""
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
    deviation = statistics.stdev(values)
    spread = show(deviation, metric) if is_share(metric) else f"{deviation:.2g}"
    return f"{show(mean, metric)}{SPACE}±{SPACE}{spread}"


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


def setting_text(setting: Mapping[str, float]) -> str:
    """`"learning_rate 0.001, alpha 0.1"`: as in a config."""
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


def together(parts: Sequence[str]) -> str:
    """`"A, B and C"`, of one part at least."""
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


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
