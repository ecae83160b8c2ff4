"""What a method gains and costs against plain fine-tuning, and against the curve between it and the pre-trained model."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from ftp_hf.runs.facts import Hardware

from .measures import CURVE, REFERENCE, by_seed, possible, sign, tested
from .results import ComparisonResults
from .statistics import PairedDifference, holm, matched_ood, paired_difference, relative_change

__all__ = [
    "Cost",
    "against_plain",
    "cost",
    "differences_to_plain",
    "matched_difference",
    "matched_differences",
    "relative_to_plain",
    "wise_curve",
]


@dataclass(frozen=True)
class Cost:
    """What a method takes, and its ratio to plain fine-tuning, where the seeds tell the two apart."""

    mean: float
    ratio: float | None


def against_plain(results: ComparisonResults, method: str, kind: str) -> PairedDifference | None:
    """A method minus plain fine-tuning, seed by seed, looked at alone; `None` where they share no seed."""
    values, plain = by_seed(results, method, kind), by_seed(results, REFERENCE, kind)
    return paired_difference(values, plain, possible(results, kind))


def differences_to_plain(results: ComparisonResults) -> dict[tuple[str, str], PairedDifference]:
    """
    [`against_plain`] of every method and kind of data, with p values that hold for all methods of a kind together. A method
    with the same runs as plain fine-tuning, as a small learning rate may have, does not count among them.
    """
    methods = [method.name for method in results.methods if method.name != REFERENCE]
    return {
        (method, kind): each
        for kind in tested(results)
        for method, each in _together(results, {name: against_plain(results, name, kind) for name in methods}).items()
    }


def relative_to_plain(results: ComparisonResults, method: str, kind: str) -> float | None:
    """
    [`relative_change`] of the means over the seeds that a method shares with plain fine-tuning; `None` where plain
    fine-tuning's mean is not above zero, so that there is no percentage of it.
    """
    values, plain = by_seed(results, method, kind), by_seed(results, REFERENCE, kind)
    seeds = values.keys() & plain.keys()
    if not seeds or statistics.fmean(plain[seed] for seed in seeds) <= 0:
        return None
    return relative_change(
        statistics.fmean(values[seed] for seed in seeds), statistics.fmean(plain[seed] for seed in seeds)
    )


def wise_curve(results: ComparisonResults, seed: int) -> list[tuple[float, float]]:
    """WiSE-FT's (ID, OOD) points of a seed in the order of α; plain fine-tuning is α = 1."""
    runs = {run.setting["alpha"]: run for run in results.runs if run.method == CURVE and run.seed == seed}
    plain = next((run for run in results.chosen_runs(REFERENCE) if run.seed == seed), None)
    if runs and plain is not None:
        runs.setdefault(1.0, plain)
    points = [(run.value("id", results.metric), run.value("ood", results.metric)) for _, run in sorted(runs.items())]
    return [(identity, ood) for identity, ood in points if identity is not None and ood is not None]


def matched_difference(results: ComparisonResults, method: str) -> PairedDifference | None:
    """
    The OOD accuracy of a method minus that of WiSE-FT's curve of the same seed at the method's ID accuracy; `None` where
    no curve reaches it. Methods trade one for the other, and the curve is what the trade costs without any method.
    """
    identity, ood = by_seed(results, method, "id"), by_seed(results, method, "ood")
    best = max if sign(results, "ood") > 0 else min
    matched = {
        seed: matched_ood(wise_curve(results, seed), identity[seed], best) for seed in identity.keys() & ood.keys()
    }
    on_curve = {seed: value for seed in results.seeds if (value := matched.get(seed)) is not None}
    return paired_difference(ood, on_curve, possible(results))


def matched_differences(results: ComparisonResults) -> dict[str, PairedDifference]:
    """[`matched_difference`] of every method that has one, with p values that hold for all of them together."""
    names = [method.name for method in results.methods if method.name not in (REFERENCE, CURVE)]
    return _together(results, {name: matched_difference(results, name) for name in names})


def _together(
    results: ComparisonResults, differences: Mapping[str, PairedDifference | None]
) -> dict[str, PairedDifference]:
    """The differences that are not `None`, with p values corrected for how many methods have runs of their own."""
    plain = [run.summary for run in results.chosen_runs(REFERENCE)]
    known = {name: each for name, each in differences.items() if each is not None}
    own = {name: each for name, each in known.items() if [run.summary for run in results.chosen_runs(name)] != plain}
    return known | holm(own)


def cost(results: ComparisonResults, method: str, what: str) -> Cost | None:
    """
    The mean over the seeds of what a run took (`what` is a field of [`Hardware`], such as `"seconds_per_step"`), and its ratio
    to plain fine-tuning over the seeds that both have on the same device. Times of different machines say nothing about
    methods, and on a busy machine only a ratio outside the interval of the differences does. On a CPU there is no ratio of
    peak memory: it is that of the process, in which earlier runs leave memory behind.
    """
    taken, plain = _taken(results, method, what), _taken(results, REFERENCE, what)
    if not taken:
        return None
    both = [key for key in taken if key in plain and not (what == "peak_memory_bytes" and key[1].startswith("CPU"))]
    ours, theirs = ({key[0]: values[key] for key in both} for values in (taken, plain))
    paired = paired_difference(ours, theirs)
    ratio = statistics.fmean(ours.values()) / statistics.fmean(theirs.values()) if paired and paired.is_clear else None
    return Cost(statistics.fmean(taken.values()), ratio)


def _taken(results: ComparisonResults, method: str, what: str) -> dict[tuple[int, str, int], float]:
    machines = {run.seed: run.summary.hardware or Hardware("") for run in results.chosen_runs(method)}
    values = {
        (seed, hardware.device, hardware.processes): getattr(hardware, what) for seed, hardware in machines.items()
    }
    return {key: value for key, value in values.items() if value is not None}
