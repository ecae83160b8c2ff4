"""
Print the figures of finished runs side by side: one column a method, mean ± standard deviation over seeds.

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
from ftp_hf.common.figures import main_metric, mean_and_sd, metric_named
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
    """The table of all runs, beside the pre-trained model if they evaluated it; shares in percent."""
    first = next(iter(runs.values()))
    before = {} if first.pretrained is None else {"before": first.pretrained.results}
    columns = before | {method: run.results for method, run in runs.items()}
    metric = metric_named(first.metric or "loss")
    unit = " in %" * metric.is_share + ", less is better" * metric.less_is_better
    table = Table(
        title=None if markdown else f"{first.base_model.name}: {metric.name}{unit}; mean ± sd over seeds",
        box=MARKDOWN if markdown else ROUNDED,
    )
    table.add_column("data")
    for name in columns:
        seeds = f" ({len(seconds[name])} seed{'s' * (len(seconds[name]) > 1)})" if name in runs else ""
        table.add_column(f"{name}{seeds}", justify="right")
    for number, result in enumerate(first.results):
        kind = {"id": "ID", "validation": "ID", "ood": "OOD"}.get(result.kind, result.kind)
        own = main_metric(result.metrics) or metric.name
        values = [results[number].figures(own).values() for results in columns.values()]
        table.add_row(f"{kind} {result.data}", *(mean_and_sd(cell, own) for cell in values))
    if first.of_kind("ood"):
        ood = [first.of_kind("ood", results) for results in columns.values()]
        table.add_row("OOD mean", *(mean_and_sd(mean_by_seed(cell, metric.name).values(), metric.name) for cell in ood))
    table.add_row(
        "seconds per step", *("" for _ in before), *(f"{statistics.fmean(seconds[name]):.3f}" for name in runs)
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="Output folders of the example scripts.")
    parser.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    try:
        for run in map(RunSummary.load, arguments.runs):
            seconds[run.method].append(run.hardware.seconds_per_step)
        runs = load_runs(arguments.runs)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    Console().print(compare(runs, seconds, markdown=arguments.markdown))


if __name__ == "__main__":
    main()
