"""Where the weights of a comparison are, and what to do with them next."""

import shlex

from ftp_hf.common.figures import setting_text, show
from ftp_hf.compare.evidence.recommendation import recommended
from ftp_hf.compare.evidence.results import ComparedRun, ComparisonResults

from .blocks import Block, Code, Strong, Table, Text

__all__ = ["BEST", "RULES", "describe", "next_commands", "weights", "why_none"]

BEST = "best"
"""The link to the recommended run, in a comparison's folder."""

RULES = "rules.yaml"
"""The comparison's rules there, as `ftp-hf check` reads them."""

_ANY = "RUN"


def weights(results: ComparisonResults) -> list[Block]:
    """
    The folders of the chosen runs, as seen from the report, and how to go on with one of them; empty where no weights were
    kept.
    """
    kept = [run for run in results.all_chosen() if run.folder]
    if not kept:
        return []
    best = recommended(results)
    rows = [_row(results, run, Strong if run is best else str) for run in kept]
    folder = best.folder if best is not None and best.folder else _ANY
    said = (
        f"Recommended is {describe(results, best)}, in {folder}, which {BEST} links to where the system has links: its method "
        "has the largest gain of the verdict, and of its runs it has the best ID validation. Test, OOD and retained data did not "
        "choose between seeds, but they did between methods: other data have to show how good it is."
        if best is not None
        else f"{why_none(results)} In the commands, {_ANY} is one of the folders below."
    )
    return [
        Text(said),
        Code("\n".join(next_commands(folder, RULES if results.rules else None))),
        Table(["method", "seed", "ID validation", "folder, from this report on", "setting"], rows, left=5),
        Text("Each folder holds weights, tokenizer or image processor, the model card and results.json."),
    ]


def next_commands(folder: str, rules: str | None) -> list[str]:
    """The commands that check and push a run, with the file of the comparison's rules if it has any."""
    run, held_to = shlex.quote(folder), f" --rules {shlex.quote(rules)}" if rules else ""
    return [f"ftp-hf check {run}{held_to or ' --rules RULES.yaml'}", f"ftp-hf push {run} USER/NAME{held_to}"]


def describe(results: ComparisonResults, run: ComparedRun) -> str:
    """Method, setting and seed of a run."""
    return f"{results.method(run.method).title}, {setting_text(run.setting)}, seed {run.seed}"


def why_none(results: ComparisonResults) -> str:
    """Why no run is recommended."""
    needed = (
        "a method that is clearly better than plain fine-tuning in robustness or on retained data, clearly worse on no kind of "
        "data, and diverged in no seed"
    )
    return (
        f"No run is recommended: that takes {needed}{', and whose runs all meet the rules' if results.rules else ''}."
    )


def _row(results: ComparisonResults, run: ComparedRun, cell: type[str]) -> list[str]:
    value = run.value("validation", results.metric)
    shown = "" if value is None else show(value, results.metric)
    texts = (results.method(run.method).title, str(run.seed), shown, run.folder or "", setting_text(run.setting))
    return [cell(text) for text in texts]
