"""
Print the accuracies of finished runs side by side: one column a method, mean ± standard deviation over seeds.

    python examples/compare_runs.py runs/plain-seed0 runs/plain-seed1 runs/ftp-seed0 runs/ftp-seed1
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

from rich.box import MARKDOWN, ROUNDED
from rich.console import Console
from rich.table import Table

from ftp_hf import RunSummary
from ftp_hf.runs.seeds import combine
from ftp_hf.runs.summary import mean_by_seed


def load_runs(folders: list[Path]) -> dict[str, RunSummary]:
    """
    The runs by method, each method's over its seeds.

    Raises:
        FileNotFoundError: a folder has no results.
        ValueError: the runs were not evaluated on the same model and data, or those of one method differ in more than
            the seed.
    """
    runs: dict[str, list[RunSummary]] = defaultdict(list)
    for folder in folders:
        run = RunSummary.load(folder)
        runs[run.method].append(run)
    first = next(iter(runs.values()))[0]
    everything = [run for group in runs.values() for run in group]
    if any(run.base_model.name != first.base_model.name for run in everything):
        raise ValueError("the runs start from different models and cannot be compared: choose runs of one config")
    combine(runs[first.method], {method: group for method, group in runs.items() if method != first.method})
    return {method: combine(group) for method, group in runs.items()}


def compare(runs: dict[str, RunSummary], seconds: dict[str, list[float]], *, markdown: bool = False) -> Table:
    """The table of all runs; accuracies in percent."""
    first = next(iter(runs.values()))
    table = Table(
        title=None if markdown else f"{first.base_model.name}: accuracy in %, mean ± sd over seeds",
        box=MARKDOWN if markdown else ROUNDED,
    )
    table.add_column("data")
    for method in runs:
        table.add_column(f"{method} ({len(seconds[method])} seed{'s' * (len(seconds[method]) > 1)})", justify="right")
    for number, result in enumerate(first.results):
        kind = "OOD" if result.kind == "ood" else "ID"
        values = [run.results[number].metrics["accuracy"].values() for run in runs.values()]
        table.add_row(f"{kind} {result.data}", *(_mean_and_deviation([100 * v for v in cell]) for cell in values))
    if first.of_kind("ood"):
        means = [mean_by_seed(run.of_kind("ood"), "accuracy").values() for run in runs.values()]
        table.add_row("OOD mean", *(_mean_and_deviation([100 * v for v in cell]) for cell in means))
    table.add_row("seconds per step", *(_mean_and_deviation(seconds[method], digits=3) for method in runs))
    return table


def _mean_and_deviation(values: list[float], digits: int = 1) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="Output folders of the example scripts.")
    parser.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in map(RunSummary.load, arguments.runs):
        seconds[run.method].append(run.hardware.seconds_per_step)
    Console().print(compare(load_runs(arguments.runs), seconds, markdown=arguments.markdown))


if __name__ == "__main__":
    main()
