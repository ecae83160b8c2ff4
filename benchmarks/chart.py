"""
Draw the results of step.py and memory.py: time of a step relative to the fused AdamW, and bytes per parameter.

    python benchmarks/chart.py --model vit_b
"""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from contestants import BASELINE, CONTESTANTS, MODELS
from matplotlib.axes import Axes
from measure import RESULTS

OURS, OTHERS, FAINT = "#1f6f8b", "#9aa5ab", "#dfe4e6"


def rows_of(path: Path, model: str) -> dict[str, dict[str, Any]]:
    """The rows of one model by contestant. Of a pairwise comparison's several baselines the first."""
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: run the benchmark that writes it")
    rows = [row for row in json.loads(path.read_text())["rows"] if row["model"] == model]
    if not rows:
        raise SystemExit(f"{path} has no rows for {model}: run its benchmark with that model")
    return {row["contestant"]: row for row in reversed(rows)}


def bars(axes: Axes, names: list[str], values: list[float], labels: list[str], ends: list[float] | None = None) -> None:
    """Horizontal bars with labels at their ends; `ends` continues each bar in a faint colour."""
    colours = [OURS if name.startswith("ftp") else OTHERS for name in names]
    ends = ends or values
    axes.barh(names, ends, color=FAINT, height=0.7)
    axes.barh(names, values, color=colours, height=0.7)
    for name, end, label in zip(names, ends, labels, strict=True):
        axes.annotate(label, (end, name), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, 1.4 * max(ends))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=8)


def main() -> None:
    options = ArgumentParser(description=__doc__)
    options.add_argument("--model", choices=MODELS, default="vit_b", help="(default: %(default)s)")
    options.add_argument("--step", type=Path, default=RESULTS / "step.json", help="(default: %(default)s)")
    options.add_argument("--memory", type=Path, default=RESULTS / "memory.json", help="(default: %(default)s)")
    options.add_argument("--output", type=Path, default=RESULTS / "step.png", help="(default: %(default)s)")
    arguments = options.parse_args()

    times, memory = rows_of(arguments.step, arguments.model), rows_of(arguments.memory, arguments.model)
    names = [name for name in CONTESTANTS if name in times and name in memory]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.9 + 0.28 * len(names)), sharey=True, layout="constrained")

    ratios = [times[name]["ratio"] for name in names]
    bars(left, names, ratios, [f"{times[name]['ratio']:.1f}×  {times[name]['ms']:.0f} ms" for name in names])
    left.axvline(times[BASELINE]["ratio"], color="black", linewidth=0.6, linestyle=":")
    left.set_yticks(range(len(names)), [CONTESTANTS[name].title for name in names])
    left.invert_yaxis()
    left.set_xlabel("time of a step, relative to AdamW fused", fontsize=8)

    rest = [memory[name]["rest"] for name in names]
    peaks = [max(memory[name]["first_peak"], memory[name]["later_peak"]) for name in names]
    labels = [f"{a:.0f}" if b - a < 0.5 else f"{a:.0f}, in a step {b:.0f}" for a, b in zip(rest, peaks, strict=True)]
    bars(right, names, rest, labels, peaks)
    right.set_xlabel("bytes per parameter (weights, gradients, optimizer)", fontsize=8)
    figure.savefig(arguments.output, dpi=150)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
