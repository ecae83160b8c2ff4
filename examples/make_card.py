"""
Write a model's card from finished runs: README.md, radii.png, and the results.json that both are made of. The first run is
the model; the others tell how much its figures vary, and what plain fine-tuning comes to.

    python examples/make_card.py model_cards/digits-ftp runs/demo/ftp-seed0 runs/demo/ftp-seed1 --plain runs/demo/plain-seed0
    python examples/make_card.py model_cards/digits-ftp   # again, from its results.json

The index of all cards beside it, `model_cards/README.md`, is written anew.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from ftp_hf import RunSummary
from ftp_hf.cards.card import write_model_card
from ftp_hf.cards.picture import draw_radii
from ftp_hf.common.privacy import public_command
from ftp_hf.compare import ComparisonResults, headline
from ftp_hf.compare.evidence.stream_results import StreamResults
from ftp_hf.compare.report.stream import stream_headline
from ftp_hf.runs.facts import PLAIN, PRETRAINED
from ftp_hf.runs.seeds import combine


def make_card(
    folder: Path,
    runs: list[Path],
    plain: list[Path],
    pretrained: list[Path],
    before: list[str],
    base_model: str | None = None,
    dataset: str | None = None,
) -> RunSummary:
    """Write or update the card in `folder`, and say what is in it."""
    if not runs:
        summary = RunSummary.load(folder)
    else:
        given = {PRETRAINED: pretrained, PLAIN: plain}
        comparisons = {name: [RunSummary.load(run) for run in group] for name, group in given.items() if group}
        summary = combine([RunSummary.load(run) for run in runs], comparisons)
        commands = [*before, *summary.commands, public_command(["python", *sys.argv])]
        summary = dataclasses.replace(summary, name=folder.name, commands=commands)
        if base_model is not None:
            summary.base_model.name = base_model
        if dataset is not None:
            next(data for data in summary.data if data.kind == "train").name = dataset
        summary.save(folder)
    draw_radii(summary, folder)
    write_model_card(summary, folder)
    return summary


def write_index(folder: Path) -> None:
    """List the cards in the folder, with their figures."""
    lines = [
        "# Model cards",
        "",
        "Of the models that the examples trained. Each card names the commands that made it, and is rendered again with",
        f"`python examples/make_card.py {folder.name}/NAME` from its `results.json`.",
        "",
        "| model | method | base model | figures |",
        "| --- | --- | --- | --- |",
    ]
    for file in sorted(folder.glob("*/results.json")):
        summary, name = RunSummary.load(file), file.parent.name
        base = f"`{summary.base_model.name}`" if summary.base_model else ""
        lines.append(f"| [{name}]({name}/README.md) | {summary.method} | {base} | {summary.headline()} |")
    lines += _comparisons(folder)
    lines += _streams(folder)
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def _comparisons(folder: Path) -> list[str]:
    """List the comparisons in the folder, with what each of them supports."""
    lines = []
    for file in sorted(folder.glob("comparisons/*/results.json")):
        results = ComparisonResults.load(file.parent)
        report = file.with_name("report.md").relative_to(folder)
        lines.append(f"| [{results.name}]({report}) | {len(results.seeds)} | {headline(results)} |")
    if not lines:
        return []
    about = [
        "## Comparisons",
        "",
        "Made by `ftp-hf compare` with the configs of that name in `examples/compare`; `ftp-hf report` writes a report again",
        "from its `results.json`. Times were taken out of them, because the machine had other work meanwhile; those in",
        "[`benchmarks/`](../benchmarks/README.md) were taken side by side.",
        "",
        "| comparison | seeds | what it supports |",
        "| --- | ---: | --- |",
    ]
    return ["", *about, *lines]


def _streams(folder: Path) -> list[str]:
    """List the streams in the folder, with the best of each."""
    lines = []
    for file in sorted(folder.glob("streams/*/results.json")):
        results = StreamResults.load(file.parent)
        report = file.with_name("report.md").relative_to(folder)
        lines.append(
            f"| [{results.name}]({report}) | {len(results.orders)} × {len(results.seeds)} | {stream_headline(results)} |"
        )
    about = [
        "## Streams",
        "",
        "Made by `ftp-hf stream` with the configs of that name in `examples/streams`, likewise.",
        "",
        "| stream | orders × seeds | what came out |",
        "| --- | ---: | --- |",
    ]
    return ["", *about, *lines] if lines else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Where the card goes; its name is the model's.")
    parser.add_argument("runs", nargs="*", type=Path, help="Output folders of the examples, that of the model first.")
    parser.add_argument("--plain", nargs="*", type=Path, default=[], help="The same of plain fine-tuning.")
    parser.add_argument("--pretrained", nargs="*", type=Path, default=[], help="The same of the pre-trained model.")
    parser.add_argument("--before", nargs="*", default=[], help="Commands that came before, such as for the data.")
    parser.add_argument("--base_model", help="What the base model is called, if not as the folder it was loaded from.")
    parser.add_argument("--dataset", help="What the training data is called, if not as its file.")
    arguments = parser.parse_args()
    summary = make_card(
        arguments.folder,
        arguments.runs,
        arguments.plain,
        arguments.pretrained,
        arguments.before,
        arguments.base_model,
        arguments.dataset,
    )
    write_index(arguments.folder.parent)
    print(f"{arguments.folder}: {summary.headline()}")


if __name__ == "__main__":
    main()
