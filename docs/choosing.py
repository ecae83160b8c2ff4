"""
Choosing without OOD data: where ID validation does not tell the settings of a method apart, which rule, that sees no OOD or
retained data, finds the better ones? Of the comparisons in model_cards/ whose every setting was evaluated.

A setting is *tied* where its ID validation is no further below the best one than the sample of rows leaves open, as
`small-lr` has it. Each rule chooses among the tied runs of a method and a seed; its gain is how much better the chosen run is
than the mean of the tied ones, which is what choosing by chance comes to. Of runs that a rule prefers alike, such as those without a
single error in validation, it has the mean. The oracle looks at the data that it is judged by: no rule can do better.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from measured import COMPARISONS

from ftp_hf.common.figures import metric_named, table
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import metric_of, tested
from ftp_hf.compare.evidence.results import RATE, ComparedRun, ComparisonResults
from ftp_hf.compare.evidence.small_rates import methods_once, tied
from ftp_hf.compare.evidence.statistics import paired_difference

Ranking = Callable[[ComparedRun], tuple[float, ...]]
"""What a rule prefers the runs by whose figures are the largest, the first of them first."""

_VALIDATION = "best ID validation"
_SMALLEST_OF_EQUALS = "…, then smallest learning rate"

DISTANCES = ("kl", "hidden_change")

_BESIDE = {"better": 1, "worse": -1, "the same": 0}


def choosing() -> str:
    """What each rule gains over chance, a row for each study and kind of data."""
    rows = []
    names: list[str] = []
    for folder in sorted(path.parent for path in COMPARISONS.glob("*/results.json")):
        results = ComparisonResults.load(folder)
        ties = count_ties(results)
        names = [*rules(results.metric), "oracle"]
        for kind in (kind for kind in tested(results) if kind == "ood" or kind.startswith("retained/")):
            if gained := gains(results, kind):
                metric = metric_of(results, kind)
                found = [paired_difference(each, dict.fromkeys(each, 0.0)) for each in map(gained.__getitem__, names)]
                cells = [difference(each, metric) for each in found]
                rows.append([f"{folder.name}, {kind} ({metric})", ties, *cells])
    return table(["study and data", "ties", *names], rows)


def beside_validation() -> str:
    """
    How often each other rule chooses a run that is better, worse or the same out of distribution as that of the best ID validation,
    whose exact ties are broken at random, or by the smallest learning rate, as comparisons do.
    """
    folders = sorted(path.parent for path in COMPARISONS.glob("*/results.json"))
    ties = [figures for folder in folders for figures in _ood_by_rule(ComparisonResults.load(folder))]
    names = [name for name in dict.fromkeys(name for figures in ties for name in figures) if name != _VALIDATION]
    usual = (_VALIDATION, _SMALLEST_OF_EQUALS)
    rows = [[name, *(_beside(ties, name, other) if name != other else "" for other in usual)] for name in names]
    head = [f"beside {_VALIDATION}: {' / '.join(_BESIDE)}", "beside the same, then smallest learning rate"]
    return table(["rule", *head], rows)


def _ood_by_rule(results: ComparisonResults) -> list[dict[str, float]]:
    """For each tie, rule → how good the run that it chooses is out of distribution."""
    sign, known = metric_named(results.metric).sign, rules(results.metric)
    return [
        {
            name: sign * statistics.fmean(_figure(run, "ood", results.metric) for run in preferred)
            for name, preferred in _preferred(runs, known).items()
        }
        for _, runs in _ties(results)
    ]


def _beside(ties: Sequence[Mapping[str, float]], name: str, other: str) -> str:
    """How often one rule is better and worse than another, and the same."""
    gained = [tie[name] - tie[other] for tie in ties if name in tie]
    known = [gain for gain in gained if not math.isnan(gain)]
    counted = Counter(0 if math.isclose(gain, 0, abs_tol=1e-12) else math.copysign(1, gain) for gain in known)
    return " / ".join(str(counted[sign]) for sign in _BESIDE.values())


def rules(metric: str) -> dict[str, Ranking]:
    """The rules that need no more than the training data, the validation data and the pre-trained model."""
    return {
        _VALIDATION: lambda run: (_validation(run, metric),),
        _SMALLEST_OF_EQUALS: lambda run: (_validation(run, metric), -run.setting[RATE]),
        "…, then smallest function distance": lambda run: (_validation(run, metric), -_distance(run)),
        "smallest function distance": lambda run: (-_distance(run),),
        "smallest distance of weights": lambda run: (-run.drift.row_norm if run.drift else math.nan,),
        "smallest learning rate": lambda run: (-run.setting[RATE],),
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
        judged: Mapping[str, Ranking] = {**known, "oracle": lambda run: (sign * figures[id(run)],)}  # noqa: B023 - used at once
        for name, preferred in _preferred(runs, judged).items():
            gain = sign * (statistics.fmean(figures[id(run)] for run in preferred) - chance)
            found.setdefault(name, {}).setdefault(seed, []).append(gain)
    return {name: {seed: statistics.fmean(each) for seed, each in by_seed.items()} for name, by_seed in found.items()}


def count_ties(results: ComparisonResults) -> str:
    """How often ID validation left several settings of a method and a seed open, of how many times, and how often exactly."""
    ties = [runs for _, runs in _ties(results)]
    by_validation = {_VALIDATION: rules(results.metric)[_VALIDATION]}
    exact = sum(len(_preferred(runs, by_validation)[_VALIDATION]) > 1 for runs in ties)
    return f"{len(ties)} of {len(_choices(results))}{f', {exact} exact' if exact else ''}"


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


def _preferred(runs: list[ComparedRun], rankings: Mapping[str, Ranking]) -> dict[str, list[ComparedRun]]:
    """Rule → the runs that it prefers to all others, of the rules that know all figures of each."""
    found = {}
    for name, ranking in rankings.items():
        ranks = [ranking(run) for run in runs]
        if not any(math.isnan(figure) for rank in ranks for figure in rank):
            found[name] = [run for run, rank in zip(runs, ranks, strict=True) if rank == max(ranks)]
    return found


def _validation(run: ComparedRun, metric: str) -> float:
    figure = run.value("validation", metric)
    return math.nan if figure is None else metric_named(metric).sign * figure


def _distance(run: ComparedRun) -> float:
    figures = (run.value("id", name) for name in DISTANCES)
    return next((figure for figure in figures if figure is not None), math.nan)


def _figure(run: ComparedRun, kind: str, metric: str) -> float:
    if kind == "ood":
        mean = run.value(kind, metric)
        return math.nan if mean is None else mean
    return run.values("retained", metric).get(kind.removeprefix("retained/"), math.nan)
