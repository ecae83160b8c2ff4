"""What the runs of a comparison say about each other: paired differences, matched ID accuracy, the Pareto front."""

import itertools
import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

__all__ = [
    "LEAST_SEEDS",
    "LEVEL",
    "PairedDifference",
    "holm",
    "known_mean",
    "matched_ood",
    "paired_difference",
    "pareto_front",
    "relative_change",
]

Key = TypeVar("Key", bound=Hashable)

LEVEL = 0.05
"""The level of significance: intervals are of 95 %, and a difference is clear where its corrected p is no larger."""
LEAST_SEEDS = 3
"""Two seeds have an interval, but one that is 13 standard errors wide, on a spread that is known from one number."""


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference between two methods over the same seeds, with its confidence interval."""

    mean: float
    low: float
    high: float
    by_seed: Mapping[int, float]
    p_value: float = 1.0
    """Of no difference (Student's t, two-sided); among others of its kind, corrected by [`holm`]."""

    @property
    def is_known(self) -> bool:
        """Whether there are enough seeds for an interval."""
        return math.isfinite(self.low)

    @property
    def is_clear(self) -> bool:
        """Whether the seeds tell the methods apart. An interval of width zero does not: the seeds happened to agree."""
        return self.p_value <= LEVEL

    @property
    def bound(self) -> float:
        """The largest difference, of either sign, within the interval."""
        return max(abs(self.low), abs(self.high))


def paired_difference(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    possible: tuple[float, float] = (-math.inf, math.inf),
) -> PairedDifference | None:
    """
    How much a method differs from another one, seed by seed, with Student's 95 % interval over the seeds. The interval ends at
    what is `possible`, the least and the largest value that there can be: beside an accuracy of 0.98 no method can be more
    than 0.02 better.

    Returns:
        [`PairedDifference`]: over the seeds that both have. With fewer than `LEAST_SEEDS` its interval is infinite; where a
        figure is not finite, its mean is NaN as well. `None` if there is no such seed.
    """
    # Rounded, so that equal differences are equal: a spread of 1e-17 is an error of floating-point numbers.
    by_seed = {seed: round(value - reference[seed], 12) for seed, value in values.items() if seed in reference}
    if not by_seed:
        return None
    count = len(by_seed)
    if not all(map(math.isfinite, by_seed.values())):
        # A model that diverged is not drawn from the distribution that an interval assumes.
        return PairedDifference(math.nan, -math.inf, math.inf, by_seed)
    mean = statistics.fmean(by_seed.values())
    if count < LEAST_SEEDS:
        return PairedDifference(mean, -math.inf, math.inf, by_seed)
    # Half a second of imports, which only intervals need.
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415

    error = statistics.stdev(by_seed.values()) / math.sqrt(count)
    half = float(stdtrit(count - 1, 1 - LEVEL / 2)) * error
    p_value = 2 * float(stdtr(count - 1, -abs(mean) / error)) if error else 1.0
    least, largest = (round(end - statistics.fmean(reference[seed] for seed in by_seed), 12) for end in possible)
    return PairedDifference(mean, max(mean - half, least), min(mean + half, largest), by_seed, p_value)


def known_mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known; `None` if none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def holm(differences: Mapping[Key, PairedDifference]) -> dict[Key, PairedDifference]:
    """
    Differences that one looks at together, with p values that hold for all of them (Holm 1979): the chance that any of those
    below 0.05 is one of no difference is at most 5 %. Those without an interval do not count. Intervals stay what they are,
    each for itself.
    """
    known = sorted((key for key in differences if differences[key].is_known), key=lambda key: differences[key].p_value)
    corrected, largest = dict(differences), 0.0
    for rank, key in enumerate(known):
        largest = min(1.0, max(largest, (len(known) - rank) * differences[key].p_value))
        corrected[key] = replace(differences[key], p_value=largest)
    return corrected


def relative_change(value: float, reference: float) -> float:
    """The change relative to plain fine-tuning in percent, as the tables of TPGM and FTP have it (ID Δ, OOD Δ)."""
    return 100 * (value - reference) / reference if reference else math.nan


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of the points (ID, OOD), both larger for better, that no other point reaches in both; in the order of ID."""
    front = [
        name
        for name, (x, y) in points.items()
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    return sorted(front, key=lambda name: points[name])


def matched_ood(
    curve: Sequence[tuple[float, float]], identity: float, best: Callable[..., float | None] = max
) -> float | None:
    """
    The OOD figure that a curve of (ID, OOD) points has at an ID figure, linear between neighbours; `None` where the curve does
    not reach it. Where the curve passes there more than once, the best: `min` where less is better.
    """
    found = [ood for on_curve, ood in curve if on_curve == identity]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if min(x0, x1) < identity < max(x0, x1):
            found.append(y0 + (y1 - y0) * (identity - x0) / (x1 - x0))
    return best(found, default=None)
