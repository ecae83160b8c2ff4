"""
Choosing without OOD data: where ID validation does not tell the settings of a method apart, which rule, that sees no OOD or
retained data, finds the better ones? Of the comparisons in model_cards/ whose every setting was evaluated.

A setting is *tied* where its ID validation is no further below the best one than the sample of rows leaves open, as
`small-lr` has it. Each rule chooses among the tied runs of a method and a seed; its gain is how much better the chosen run is
than the mean of the tied ones, which is what choosing by chance comes to. The oracle looks at the data that it is judged by:
no rule can do better.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping

from measured import COMPARISONS

from ftp_hf.common.figures import metric_named, table
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import metric_of, tested
from ftp_hf.compare.evidence.results import RATE, ComparedRun, ComparisonResults
from ftp_hf.compare.evidence.small_rates import methods_once, tied
from ftp_hf.compare.evidence.statistics import paired_difference

Ranking = Callable[[ComparedRun], float]
"""What a rule prefers the runs by whose figure is the largest."""

_VALIDATION = "best ID validation"

DISTANCES = ("kl", "hidden_change")


def choosing() -> str:
    """What each rule gains over chance, a row for each study and kind of data."""
    rows = []
    names: list[str] = []
    for folder in sorted(path.parent for path in COMPARISONS.glob("*/results.json")):
        results = ComparisonResults.load(folder)
        ties, asked = count_ties(results)
        names = [*rules(results.metric), "oracle"]
        for kind in (kind for kind in tested(results) if kind == "ood" or kind.startswith("retained/")):
            if gained := gains(results, kind):
                metric = metric_of(results, kind)
                found = [paired_difference(each, dict.fromkeys(each, 0.0)) for each in map(gained.__getitem__, names)]
                cells = [difference(each, metric) for each in found]
                rows.append([f"{folder.name}, {kind} ({metric})", f"{ties} of {asked}", *cells])
    return table(["study and data", "ties", *names], rows)


def beside_validation() -> str:
    """How often each other rule chooses a run that is better, worse or the same out of distribution as that of the best ID validation."""
    counts: dict[str, Counter[str]] = {}
    for path in sorted(COMPARISONS.glob("*/results.json")):
        results = ComparisonResults.load(path.parent)
        sign = metric_named(results.metric).sign
        known = rules(results.metric)
        for _, runs in _ties(results):
            figures = {
                name: sign * _figure(run, "ood", results.metric) for name, run in _preferred(runs, known).items()
            }
            usual = figures.pop(_VALIDATION)
            for name, figure in figures.items():
                if not math.isnan(figure - usual):
                    counts.setdefault(name, Counter())[_beside(figure, usual)] += 1
    columns = ("better", "worse", "the same")
    return table(
        ["rule", *columns], [[name, *(str(found[each]) for each in columns)] for name, found in counts.items()]
    )


def _beside(figure: float, usual: float) -> str:
    return "the same" if figure == usual else "better" if figure > usual else "worse"


def rules(metric: str) -> dict[str, Ranking]:
    """The rules that need no more than the training data, the validation data and the pre-trained model."""
    return {
        _VALIDATION: lambda run: metric_named(metric).sign * _validation(run, metric),
        "smallest function distance": lambda run: -_distance(run),
        "smallest distance of weights": lambda run: -run.drift.row_norm if run.drift else math.nan,
        "smallest learning rate": lambda run: -run.setting[RATE],
    }


def gains(results: ComparisonResults, kind: str) -> dict[str, dict[int, float]]:
    """
    Rule → seed → how much better its runs are than the tied ones on average, over the methods that have ties.

    Args:
        results ([`ComparisonResults`]): with every setting evaluated.
        kind (`str`): of the data that the runs are judged by: `"ood"`, or `"retained/NAME"`.
    """
    metric = metric_of(results, kind)
    sign = metric_named(metric).sign
    known = rules(results.metric)
    found: dict[str, dict[int, list[float]]] = {}
    for seed, runs in _ties(results):
        figures = {id(run): _figure(run, kind, metric) for run in runs}
        if any(math.isnan(figure) for figure in figures.values()):
            continue
        chance = statistics.fmean(figures.values())
        judged: Mapping[str, Ranking] = {**known, "oracle": lambda run: sign * figures[id(run)]}  # noqa: B023 - used at once
        for name, run in _preferred(runs, judged).items():
            found.setdefault(name, {}).setdefault(seed, []).append(sign * (figures[id(run)] - chance))
    return {name: {seed: statistics.fmean(each) for seed, each in by_seed.items()} for name, by_seed in found.items()}


def count_ties(results: ComparisonResults) -> tuple[int, int]:
    """How often ID validation left several settings of a method and a seed open, and of how many times."""
    asked = _choices(results)
    return sum(len(tied(runs, results.metric)) > 1 for _, runs in asked), len(asked)


def _ties(results: ComparisonResults) -> list[tuple[int, list[ComparedRun]]]:
    each = [(seed, tied(runs, results.metric)) for seed, runs in _choices(results)]
    return [(seed, runs) for seed, runs in each if len(runs) > 1]


def _choices(results: ComparisonResults) -> list[tuple[int, list[ComparedRun]]]:
    """The runs of each seed and method that was trained: those computed from the runs of another one share its ties."""
    names = [method.name for method in methods_once(results) if RATE in method.chosen]
    each = [
        (seed, [run for run in results.runs if run.method == name and run.seed == seed and run.summary.of_kind("ood")])
        for name in names
        for seed in results.seeds
    ]
    return [(seed, runs) for seed, runs in each if len(runs) > 1]


def _preferred(runs: list[ComparedRun], rankings: Mapping[str, Ranking]) -> dict[str, ComparedRun]:
    """Rule → the run that it prefers, of the rules that know a figure of each."""
    return {
        name: max(runs, key=ranking)
        for name, ranking in rankings.items()
        if not any(math.isnan(ranking(run)) for run in runs)
    }


def _validation(run: ComparedRun, metric: str) -> float:
    figure = run.value("validation", metric)
    return math.nan if figure is None else figure


def _distance(run: ComparedRun) -> float:
    figures = (run.value("id", name) for name in DISTANCES)
    return next((figure for figure in figures if figure is not None), math.nan)


def _figure(run: ComparedRun, kind: str, metric: str) -> float:
    if kind == "ood":
        mean = run.value(kind, metric)
        return math.nan if mean is None else mean
    return run.values("retained", metric).get(kind.removeprefix("retained/"), math.nan)
