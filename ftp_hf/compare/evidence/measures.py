"""The figures that statistics are computed from, by method, seed and data."""

import math
import statistics
from collections.abc import Collection, Iterable

from ftp_hf.common.figures import main_metric, metric_named
from ftp_hf.runs.corrupted import corruption_of, inert_among
from ftp_hf.runs.facts import Evaluation

from .results import RATE, ComparedRun, ComparisonResults

__all__ = [
    "CURVE",
    "REFERENCE",
    "TESTED",
    "by_seed",
    "chance",
    "check_same_data",
    "chosen_evaluations",
    "corruptions",
    "data_sets",
    "diverged",
    "finished_seeds",
    "inert_corruptions",
    "keeps_best",
    "kept_epochs",
    "metric_of",
    "on_data",
    "possible",
    "pretrained_figure",
    "radii",
    "retained",
    "robust_kind",
    "set_name",
    "severity_curve",
    "sign",
    "tested",
]

REFERENCE = "plain"
CURVE = "wise-ft"
TESTED = ("id", "ood", "corrupted")
"""The kinds of data that conclusions are drawn from, beside the retained sets."""
_RETAINED = "retained/"
"""Before the name of a retained set: each is a kind of its own, because each may have its own metric."""


def by_seed(results: ComparisonResults, method: str, kind: str, *, prefix: str = "") -> dict[int, float]:
    """
    The unweighted mean over the data sets of a kind (see [`tested`]), for each seed of a method at its chosen setting; empty
    if the method is not compared. With a `prefix` such as `"fog/"`, only data sets whose names start with it count; without
    one, kinds of corruption that take nothing from any model do not.
    """
    if kind.startswith(_RETAINED):
        return on_data(results, method, "retained", set_name(kind))
    left_out = inert_corruptions(results) if kind == "corrupted" and not prefix else []
    means = {run.seed: run.value(kind, results.metric, prefix, left_out) for run in results.chosen_runs(method)}
    return {seed: mean for seed, mean in means.items() if mean is not None}


def on_data(results: ComparisonResults, method: str, kind: str, data: str) -> dict[int, float]:
    """The figure on one data set, for each seed of a method at its chosen setting."""
    metric = metric_of(results, f"{kind}/{data}")
    values = {run.seed: run.values(kind, metric) for run in results.chosen_runs(method)}
    return {seed: by_data[data] for seed, by_data in values.items() if data in by_data}


def data_sets(results: ComparisonResults, kind: str) -> list[str]:
    """The names of the data sets of a kind that any method was evaluated on, in their order."""
    found = [result for result in chosen_evaluations(results) if result.kind == kind]
    return list(
        dict.fromkeys(result.data for result in found if kind == "retained" or results.metric in result.metrics)
    )


def chosen_evaluations(results: ComparisonResults) -> list[Evaluation]:
    """The evaluations of all methods at their chosen settings."""
    return [result for run in results.all_chosen() for result in run.summary.results]


def tested(results: ComparisonResults) -> list[str]:
    """The kinds of data that conclusions are drawn from: `"id"`, `"ood"`, `"corrupted"`, and each `"retained/NAME"`."""
    return [*TESTED, *retained(results)]


def retained(results: ComparisonResults) -> list[str]:
    """The retained sets as kinds of data: each `"retained/NAME"`."""
    return [f"{_RETAINED}{name}" for name in data_sets(results, "retained")]


def set_name(kind: str) -> str:
    """The name of a retained set, from its kind of data."""
    return kind.removeprefix(_RETAINED)


def metric_of(results: ComparisonResults, kind: str) -> str:
    """The metric that the figures of a kind of data, as [`tested`] has it, are in."""
    if not kind.startswith(_RETAINED):
        return results.metric
    of_set = [each for each in chosen_evaluations(results) if f"{each.kind}/{each.data}" == kind]
    names = list(dict.fromkeys(name for result in of_set for name in result.metrics))
    return (results.metric if results.metric in names else main_metric(names)) or results.metric


def sign(results: ComparisonResults, kind: str) -> int:
    """1 where more of its metric is better, -1 where less is."""
    return metric_named(metric_of(results, kind)).sign


def pretrained_figure(results: ComparisonResults, kind: str) -> float | None:
    """The pre-trained model's figure on a kind of data, as [`by_seed`] has it; `None` where it was not measured."""
    wanted, metric = kind.split("/", 1), metric_of(results, kind)
    left_out = inert_corruptions(results) if kind == "corrupted" else []
    found = [
        each
        for each in _without_corruptions(results.pretrained, left_out)
        if [each.kind, each.data][: len(wanted)] == wanted
    ]
    values = [statistics.fmean(each.figures(metric).values()) for each in found if metric in each.metrics]
    return statistics.fmean(values) if values and len(values) == len(found) else None


def corruptions(results: ComparisonResults) -> list[str]:
    """The kinds of corruption that any method was evaluated with, in their order."""
    return list(dict.fromkeys(map(corruption_of, data_sets(results, "corrupted"))))


def inert_corruptions(results: ComparisonResults) -> list[str]:
    """The kinds of corruption that change nothing in any run, as [`inert_among`] finds them."""
    return inert_among(run.summary.results for run in results.all_chosen())


def finished_seeds(results: ComparisonResults, method: str) -> list[int]:
    """The seeds whose run at the chosen setting was evaluated on test data."""
    measured = {seed for kind in TESTED for seed in by_seed(results, method, kind)}
    return [seed for seed in results.seeds if seed in measured]


def diverged(results: ComparisonResults, method: str) -> list[int]:
    """The seeds with a figure that is not finite on the data that conclusions are drawn from."""
    figures = [item for kind in tested(results) for item in by_seed(results, method, kind).items()]
    lost = {seed for seed, value in figures if not math.isfinite(value)}
    return [seed for seed in results.seeds if seed in lost]


def robust_kind(results: ComparisonResults) -> str | None:
    """What robustness is judged by: real OOD sets, corruptions where there are none, or nothing."""
    return next((kind for kind in ("ood", "corrupted") if data_sets(results, kind)), None)


def chance(results: ComparisonResults) -> float | None:
    """The accuracy of guessing one of the classes; `None` for other metrics, and where the classes are not known."""
    classes = max((len(run.summary.labels) for run in results.runs), default=0)
    return 1 / classes if classes and results.metric == "accuracy" else None


def severity_curve(results: ComparisonResults, method: str, corruption: str | None = None) -> dict[int, list[float]]:
    """
    The figures at each severity, one for each seed: the mean over the kinds of corruption, or those of one such as `"fog"`.
    Corrupted data sets are called `"KIND/SEVERITY"`.
    """
    left_out = inert_corruptions(results)
    found: dict[int, list[float]] = {}
    for run in results.chosen_runs(method):
        of_seed: dict[int, list[float]] = {}
        for name, value in run.values("corrupted", results.metric).items():
            kind, _, severity = name.rpartition("/")
            if corruption == kind or (corruption is None and kind not in left_out):
                of_seed.setdefault(int(severity), []).append(value)
        for level, values in of_seed.items():
            found.setdefault(level, []).append(statistics.fmean(values))
    return {severity: found[severity] for severity in sorted(found)}


def keeps_best(results: ComparisonResults) -> bool | None:
    """Whether the weights of each run are those after its best epoch, or after its last; `None` where runs differ or do not say."""
    said = {run.summary.arguments.get("load_best_model_at_end") for run in _trained(results.runs)}
    return said.pop() if len(said) == 1 else None


def kept_epochs(results: ComparisonResults, runs: Iterable[ComparedRun]) -> list[float]:
    """
    After which epochs the weights of runs are kept, as far as it is known: of those that are trained, not computed. Empty
    where all runs of the comparison keep their last.
    """
    if all(run.summary.kept_step == run.summary.steps for run in _trained(results.runs)):
        return []
    return [epoch for run in _trained(runs) if (epoch := run.summary.kept_epoch) is not None]


def radii(results: ComparisonResults, method: str) -> dict[str, float]:
    """The learned radius of each parameter, the median over the seeds; empty for a method without projection."""
    found: dict[str, list[float]] = {}
    for run in results.chosen_runs(method):
        for name, facts in (run.summary.projection.radii if run.summary.projection else {}).items():
            found.setdefault(name, []).append(facts.radius)
    return {name: statistics.median(values) for name, values in found.items()}


def check_same_data(results: ComparisonResults) -> None:
    """
    Refuse to compare figures of different data.

    Raises:
        ValueError: two runs were evaluated on different sets of one kind, or on sets of different sizes.
    """
    for kind in ("validation", "id", "ood", "retained", "corrupted"):
        first: ComparedRun | None = None
        for run in results.all_chosen():
            if not (ours := run.summary.sizes(kind)):
                continue  # not evaluated yet
            first = first or run
            theirs = first.summary.sizes(kind)
            if ours != theirs:
                raise ValueError(
                    f"the {run.method} run of seed {run.seed} was evaluated on the {kind} data {ours}, the {first.method} "
                    f"run of seed {first.seed} on {theirs}: they cannot be compared. Evaluate both on the same data"
                )


def possible(results: ComparisonResults, kind: str = "id") -> tuple[float, float]:
    """The least and the largest value that the metric of a kind of data can have."""
    return metric_named(metric_of(results, kind)).possible


def _trained(runs: Iterable[ComparedRun]) -> list[ComparedRun]:
    return [run for run in runs if RATE in run.setting]


def _without_corruptions(evaluations: Iterable[Evaluation], left_out: Collection[str]) -> list[Evaluation]:
    return [each for each in evaluations if each.kind != "corrupted" or corruption_of(each.data) not in left_out]
