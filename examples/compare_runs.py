"""
Print the accuracies of finished runs side by side: one column a method, mean ± standard deviation over seeds.

    python examples/compare_runs.py runs/plain-seed0 runs/plain-seed1 runs/ftp-seed0 runs/ftp-seed1
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.box import MARKDOWN, ROUNDED
from rich.console import Console
from rich.table import Table

Run = dict[str, Any]


def load_runs(folders: list[Path]) -> dict[str, list[Run]]:
    """
    The results of the runs by method.

    Raises:
        ValueError: a folder has no results, the runs were not evaluated on the same model and data, or those of one
            method differ in more than the seed.
    """
    runs: dict[str, list[Run]] = defaultdict(list)
    for folder in folders:
        file = folder / "results.json"
        if not file.is_file():
            raise ValueError(f"{folder} has no results.json: did its run finish?")
        run = json.loads(file.read_text())
        runs[run["method"]].append(run)
    everything = [run for group in runs.values() for run in group]
    if len({json.dumps([run["model"], _sizes(run)]) for run in everything}) > 1:
        raise ValueError("the runs differ in model or data and cannot be compared: choose runs of one config")
    for method, group in runs.items():
        if len({(run["learning_rate"], run["steps"]) for run in group}) > 1:
            raise ValueError(f"the {method} runs differ in learning rate or steps: their mean would mean nothing")
        if len({run["seed"] for run in group}) < len(group):
            raise ValueError(f"two {method} runs have the same seed: they are not independent")
    return runs


def _sizes(run: Run) -> dict[str, int]:
    return {name: scores["samples"] for kind in ("id", "ood") for name, scores in run[kind].items()}


def compare(runs: dict[str, list[Run]], *, markdown: bool = False) -> Table:
    """The table of all runs; accuracies in percent."""
    first = next(iter(runs.values()))[0]
    seeds = {method: len(group) for method, group in runs.items()}
    table = Table(
        title=None if markdown else f"{Path(first['model']).name}: accuracy in %, mean ± sd over seeds",
        box=MARKDOWN if markdown else ROUNDED,
    )
    table.add_column("data")
    for method, count in seeds.items():
        table.add_column(f"{method} ({count} seed{'s' if count > 1 else ''})", justify="right")

    def add(name: str, figure: Callable[[Run], float], digits: int = 1) -> None:
        cells = [_mean_and_deviation([figure(run) for run in group], digits) for group in runs.values()]
        table.add_row(name, *cells)

    for name in first["id"]:
        add(f"ID {name}", lambda run, name=name: 100 * run["id"][name]["accuracy"])
    for name in first["ood"]:
        add(f"OOD {name}", lambda run, name=name: 100 * run["ood"][name]["accuracy"])
    if first["ood"]:
        add("OOD mean", lambda run: 100 * statistics.fmean(scores["accuracy"] for scores in run["ood"].values()))
    add("seconds per step", lambda run: run["seconds_per_step"], digits=3)
    return table


def _mean_and_deviation(values: list[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="Output folders of the example scripts.")
    parser.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    arguments = parser.parse_args()
    Console().print(compare(load_runs(arguments.runs), markdown=arguments.markdown))


if __name__ == "__main__":
    main()
