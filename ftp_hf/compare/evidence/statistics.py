"""What the runs of a comparison say about each other: paired differences, matched ID accuracy, the Pareto front."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PairedDifference", "matched_ood", "paired_difference", "pareto_front", "relative_change"]


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference between two methods over the same seeds, with its confidence interval."""

    mean: float
    low: float
    high: float
    by_seed: Mapping[int, float]

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out. One without width says nothing: its seeds happened to agree."""
        return self.low < self.high and (self.low > 0 or self.high < 0)

    @property
    def bound(self) -> float:
        """The largest difference, of either sign, within the interval."""
        return max(abs(self.low), abs(self.high))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = 0.95
) -> PairedDifference | None:
    """
    How much a method differs from another one, seed by seed, with Student's t interval over the seeds.

    Args:
        values (mapping from `int` to `float`): of the method, by seed.
        reference (mapping from `int` to `float`): of the other one.
        confidence (`float`, *optional*, defaults to 0.95): of the interval.

    Returns:
        [`PairedDifference`]: over the seeds that both have; with fewer than two its interval is infinite. `None` if there
        is no such seed.
    """
    # Rounded, so that equal differences are equal: a spread of 1e-17 is one of floating-point numbers.
    by_seed = {seed: round(value - reference[seed], 12) for seed, value in values.items() if seed in reference}
    if not by_seed:
        return None
    mean, count = statistics.fmean(by_seed.values()), len(by_seed)
    if count == 1:
        return PairedDifference(mean, -math.inf, math.inf, by_seed)
    # Half a second of imports, of which only intervals need anything.
    from scipy.special import stdtrit  # noqa: PLC0415

    error = statistics.stdev(by_seed.values()) / math.sqrt(count)
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * error
    return PairedDifference(mean, mean - half, mean + half, by_seed)


def relative_change(value: float, reference: float) -> float:
    """
    The change relative to plain fine-tuning in percent, as the tables of TPGM and FTP have it (ID Δ, OOD Δ).

    Args:
        value (`float`): of the method.
        reference (`float`): of plain fine-tuning.
    """
    return 100 * (value - reference) / reference if reference else math.nan


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """
    The names of the points (ID, OOD) that no other point reaches in both, in the order of ID.

    Args:
        points (mapping from `str` to pairs of `float`): larger is better.
    """
    front = [
        name
        for name, (x, y) in points.items()
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    return sorted(front, key=lambda name: points[name])


def matched_ood(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """
    The OOD accuracy that a curve of (ID, OOD) points has at an ID accuracy; where it passes there more than once, the
    best. Between neighbours it is linear.

    Args:
        curve (sequence of pairs of `float`): such as WiSE-FT's points in the order of α.
        accuracy (`float`): in distribution.

    Returns:
        `float`: `None` where the curve does not reach the ID accuracy, or is always above it.
    """
    found = [ood for identity, ood in curve if identity == accuracy]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if min(x0, x1) < accuracy < max(x0, x1):
            found.append(y0 + (y1 - y0) * (accuracy - x0) / (x1 - x0))
    return max(found, default=None)
