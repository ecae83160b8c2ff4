"""
Draw docs/bfloat16.png: fine-tuning in float32 and in bfloat16 weights, plainly and with FTP, and with FTP without masters where there
are runs of it.

    python docs/bfloat16.py RUNS

`RUNS` holds folders METHOD-WEIGHTS-SEED that `examples/text_classification.py` wrote, `ftp-rounded-0` with
`--dtype bfloat16 --ftp_stochastic_rounding`.
"""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

COLOURS = {"plain": "#b5523b", "ftp": "#1f6f8b"}
STYLES = {"float32": "-", "bfloat16": "--", "rounded": ":"}
LABELS = {
    "float32": "float32 weights",
    "bfloat16": "bfloat16 weights",
    "rounded": "bfloat16 weights, rounded stochastically",
}


def curve(runs: Path, method: str, weights: str, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the logged value averaged over the seeds."""
    logs = []
    for path in sorted(runs.glob(f"{method}-{weights}-*/trainer_state.json")):
        history = json.loads(path.read_text())["log_history"]
        logs.append([(entry["step"], entry[value]) for entry in history if value in entry])
    if not logs:
        raise SystemExit(f"{runs} holds no finished run {method}-{weights}-SEED")
    steps, values = np.array(logs).mean(axis=0).T
    return steps, values


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    runs = parser.parse_args().runs
    figure, (loss, radius) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    kinds = ["float32", "bfloat16", *(["rounded"] if any(runs.glob("ftp-rounded-*")) else [])]
    for method, colour in COLOURS.items():
        for weights in kinds if method == "ftp" else kinds[:2]:
            label = f"{'FTP' if method == 'ftp' else 'plain AdamW'}, {LABELS[weights]}"
            loss.plot(*curve(runs, method, weights, "loss"), STYLES[weights], color=colour, label=label)
    for weights in kinds:
        radii = curve(runs, "ftp", weights, "ftp_radius_median")
        radius.plot(*radii, STYLES[weights], color=COLOURS["ftp"], label=LABELS[weights])
    loss.set_ylabel("training loss")
    radius.set_ylabel("median radius")
    for axes in (loss, radius):
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
