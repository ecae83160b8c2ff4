"""What was logged while a run trained, without the timings and the memory that it took."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftp_hf.common.records import plain

from .facts import LogRow

__all__ = ["log_rows", "measured", "split_numbers"]

_TIMINGS = ("_runtime", "_per_second", "_time")
# As transformers calls it (5.18 to 5.23), whatever the prefix of the other metrics.
_MEMORY = re.compile(r"before_init_mem_(cpu|gpu)|(init|train|eval|test)_mem_(cpu|gpu)_(alloc|peaked)_delta")
_OF_STEP = ("epoch", "loss", "ftp_radius_median", "ftp_radius_max")


def measured(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """
    Of what `Trainer.evaluate` returns, what it measured: neither timings, nor memory (`skip_memory_metrics=False`), nor the
    epoch. The prefix of the names, such as `"eval_"`, is left out.
    """
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name != "epoch" and not name.endswith(_TIMINGS) and not _MEMORY.fullmatch(name)
    }


def split_numbers(metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """
    Metrics as numbers (scalars of numpy and torch too), and those that are none.

    Returns:
        `tuple[dict[str, float], dict[str, Any]]`: the numbers, NaN where they are not finite; the rest (lists, dicts,
        texts, `None`) as JSON can hold it.
    """
    numbers: dict[str, float] = {}
    rest: dict[str, Any] = {}
    for name, value in metrics.items():
        given = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(given, (int, float)):
            numbers[name] = given if math.isfinite(given) else math.nan
        else:
            rest[name] = plain(given)
    return numbers, rest


def log_rows(log_history: Sequence[Mapping[str, Any]]) -> list[LogRow]:
    """The logs of a training, a row for each step: the loss, the validation metrics and the radii."""
    rows: dict[int, LogRow] = {}
    for entry in log_history:
        metrics = measured({name: value for name, value in entry.items() if name.startswith("eval_")}, "eval_")
        if "loss" not in entry and not metrics:
            continue
        numbers, details = split_numbers(metrics)
        of_step, _ = split_numbers({name: entry[name] for name in _OF_STEP if name in entry})
        row = rows.setdefault(entry["step"], LogRow(entry["step"]))
        row.epoch = of_step.get("epoch", row.epoch)
        row.loss = of_step.get("loss", row.loss)
        row.metrics |= numbers
        row.details |= details
        row.radius_median = of_step.get("ftp_radius_median", row.radius_median)
        row.radius_max = of_step.get("ftp_radius_max", row.radius_max)
    return [rows[step] for step in sorted(rows)]
