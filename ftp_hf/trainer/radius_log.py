"""What the logs of a run say of its radii, and which radii end it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ftp_hf.optim.radii import Radius
from ftp_hf.projection.sharding import is_dtensor

__all__ = ["check_finite", "check_weights", "summarize"]


def summarize(radii: Mapping[str, Radius], *, each: bool) -> dict[str, float]:
    """The radii in a few numbers, by the key of the log; with `each`, every radius too."""
    radius, deviation, on_boundary = zip(*radii.values(), strict=True)
    summary = {
        "ftp_radius_max": max(radius),
        "ftp_radius_median": statistics.median(radius),
        "ftp_deviation_max": max(deviation),
        "ftp_deviation_median": statistics.median(deviation),
        "ftp_on_boundary": statistics.fmean(on_boundary),
    }
    if each:
        summary |= {f"ftp_radius/{name}": value.radius for name, value in radii.items()}
    return summary


def check_finite(radii: Mapping[str, Radius], steps: int) -> None:
    """
    Raise if the weights are not finite, before they are saved over good ones.

    Raises:
        FloatingPointError: names a parameter whose distance from its anchor is not finite.
    """
    _raise_if_lost([name for name, radius in radii.items() if not math.isfinite(radius.deviation)], steps)


def check_weights(groups: Sequence[dict[str, Any]], steps: int) -> None:
    """
    Raise if a weight is not finite, projected or not. Sharded ones are left to [`check_finite`]: a process sees only its part,
    and would raise alone.

    Raises:
        FloatingPointError: names a parameter that is not finite.
    """
    lost = [
        group["param_names"][index] if "param_names" in group else f"parameter {index}"
        for group in groups
        for index, parameter in enumerate(group["params"])
        if not is_dtensor(parameter) and not torch.isfinite(parameter).all()
    ]
    _raise_if_lost(lost, steps)


def _raise_if_lost(lost: Sequence[str], steps: int) -> None:
    if lost:
        raise FloatingPointError(
            f"training diverged: after {steps} steps the weights of {lost[0]}{', …' if lost[1:] else ''} are not finite, "
            "because a loss or a gradient was not. Look at the data, the learning rate and the precision, and go on from "
            "the last checkpoint (resume_from_checkpoint=True), which is from before"
        )
