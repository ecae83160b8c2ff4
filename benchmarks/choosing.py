"""
Choosing without OOD data: where ID validation does not tell the settings of a method apart, which rule, that sees no OOD or
retained data, finds the better ones?

    python benchmarks/choosing.py model_cards/comparisons/*

For comparisons whose every setting was evaluated (`every_setting: true`). A setting is *tied* where its ID validation is no
further below the best one than the sample of rows leaves open, as `small-lr` has it. Each rule chooses among the tied runs
of a method and a seed; its gain is how much better the chosen run is than the mean of the tied ones, which is what choosing
by chance comes to. The oracle looks at the data that it is judged by: no rule can do better.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ftp_hf.common.figures import metric_named, table
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import mean_on, metric_of, tested
from ftp_hf.compare.evidence.results import ComparedRun, ComparisonResults
from ftp_hf.compare.evidence.small_rates import has_fallen
from ftp_hf.compare.evidence.statistics import paired_difference

Ranking = Callable[[ComparedRun], float]
"""What a rule prefers the runs by whose figure is the largest."""

DISTANCES = ("kl", "hidden_change")


def rules(metric: str) -> dict[str, Ranking]:
    """The rules that need no more than the training data, the validation data and the pre-trained model."""
    return {
        "best ID validation": lambda run: metric_named(metric).sign * _validation(run, metric),
        "smallest function distance": lambda run: -_distance(run),
        "smallest distance of weights": lambda run: -run.drift.row_norm if run.drift else math.nan,
        "smallest learning rate": lambda run: -run.setting["learning_rate"],
    }


def tied(runs: Sequence[ComparedRun], metric: str) -> list[ComparedRun]:
    """The runs that ID validation does not tell from the best of them."""
    best = max(runs, key=lambda run: metric_named(metric).sign * _validation(run, metric))
    return [run for run in runs if not has_fallen(run, best, metric)]


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
        for name, ranking in judged.items():
            if not any(math.isnan(ranking(run)) for run in runs):
                gain = sign * (figures[id(max(runs, key=ranking))] - chance)
                found.setdefault(name, {}).setdefault(seed, []).append(gain)
    return {name: {seed: statistics.fmean(each) for seed, each in by_seed.items()} for name, by_seed in found.items()}


def count_ties(results: ComparisonResults) -> tuple[int, int]:
    """How often ID validation left several settings of a method and a seed open, and of how many times."""
    asked = [runs for _, runs in _by_method_and_seed(results) if len(runs) > 1]
    return sum(len(tied(runs, results.metric)) > 1 for runs in asked), len(asked)


def _ties(results: ComparisonResults) -> list[tuple[int, list[ComparedRun]]]:
    each = [(seed, tied(runs, results.metric)) for seed, runs in _by_method_and_seed(results)]
    return [(seed, runs) for seed, runs in each if len(runs) > 1]


def _by_method_and_seed(results: ComparisonResults) -> list[tuple[int, list[ComparedRun]]]:
    """Of the methods that were trained: those computed from the runs of another one share its ties."""
    names = [method.name for method in results.methods if "learning_rate" in method.chosen]
    return [
        (seed, [run for run in results.runs if run.method == name and run.seed == seed and run.summary.of_kind("ood")])
        for name in names
        for seed in results.seeds
    ]


def _validation(run: ComparedRun, metric: str) -> float:
    figure = run.value("validation", metric)
    return math.nan if figure is None else figure


def _distance(run: ComparedRun) -> float:
    figures = (run.value("id", name) for name in DISTANCES)
    return next((figure for figure in figures if figure is not None), math.nan)


def _figure(run: ComparedRun, kind: str, metric: str) -> float:
    if kind == "ood":
        mean = mean_on(run, kind, metric)
        return math.nan if mean is None else mean
    return run.values("retained", metric).get(kind.removeprefix("retained/"), math.nan)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", nargs="+", type=Path, help="folders with results.json")
    rows = []
    for folder in parser.parse_args().comparisons:
        results = ComparisonResults.load(folder)
        if not any(len(runs) > 1 for _, runs in _by_method_and_seed(results)):
            continue
        ties, asked = count_ties(results)
        for kind in (kind for kind in tested(results) if kind == "ood" or kind.startswith("retained/")):
            for name, by_seed in gains(results, kind).items():
                gain = difference(paired_difference(by_seed, dict.fromkeys(by_seed, 0.0)), metric_of(results, kind))
                rows.append([results.name, f"{ties} of {asked}", kind, name, gain])
    print(table(["comparison", "ties", "data", "rule", "better than chance by"], rows, left=4))


if __name__ == "__main__":
    main()
