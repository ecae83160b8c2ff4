"""What was logged while a run trained, without the timings."""

from collections.abc import Mapping, Sequence
from typing import Any
from .summary import LogRow


__all__ = ["log_rows", "measured"]

_TIMINGS = ("_runtime", "_per_second", "_time")


def measured(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """
    Of what `Trainer.evaluate` returns, what it measured: neither timings nor the epoch.

    Args:
        metrics (mapping from `str` to `float`): as it returns them.
        prefix (`str`): of their names, such as `"eval_"`, which is left out.
    """
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name != "epoch" and not name.endswith(_TIMINGS)
    }


def log_rows(log_history: Sequence[Mapping[str, Any]]) -> list[LogRow]:
    """The logs of a training, a row for each step: the loss, the validation metrics and the radii."""
    rows: dict[int, LogRow] = {}
    for entry in log_history:
        metrics = measured({name: value for name, value in entry.items() if name.startswith("eval_")}, "eval_")
        if "loss" not in entry and not metrics:
            continue
        row = rows.setdefault(entry["step"], LogRow(entry["step"]))
        row.epoch = entry.get("epoch", row.epoch)
        row.loss = entry.get("loss", row.loss)
        row.metrics |= metrics
        row.radius_median = entry.get("ftp_radius_median", row.radius_median)
        row.radius_max = entry.get("ftp_radius_max", row.radius_max)
    return [rows[step] for step in sorted(rows)]
