"""
What the chosen runs of a comparison leave: results and a card beside the weights of each, and a link to the best; and what is
not to be overwritten.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from ftp_hf.cards.files import write_run_files
from ftp_hf.common.files import replacing
from ftp_hf.common.folder import RESULTS
from ftp_hf.compare.evidence.measures import REFERENCE
from ftp_hf.compare.evidence.recommendation import recommended
from ftp_hf.compare.evidence.results import ComparedRun, ComparisonResults
from ftp_hf.compare.evidence.saved import kind_of_results
from ftp_hf.compare.report.weights import BEST, RULES, describe, next_commands, why_none
from ftp_hf.runs.facts import PLAIN, DataFacts
from ftp_hf.runs.seeds import combine
from ftp_hf.runs.summary import RunSummary

__all__ = ["check_vacant", "hand_over", "what_next"]

_OURS = "# Of the config of the comparison in this folder.\n"
"""What the file of rules begins with: one that a person put there is not deleted or overwritten."""


def check_vacant(folder: Path, what: str, rules: Sequence[str] = ()) -> None:
    """
    Check before anything is trained that results and rules in a folder, if there are any, are of an earlier comparison or
    stream (`what` says which), as they are overwritten afterwards.

    Raises:
        FileExistsError: they are of something else; names the file.
    """
    results, its_rules = folder / RESULTS, folder / RULES
    if (found := kind_of_results(folder)) not in (None, what):
        raise FileExistsError(f"{results} is of a {found}, and this {what} would overwrite it: name another output_dir")
    if rules and its_rules.is_file() and not _is_ours(its_rules):
        raise FileExistsError(
            f"{its_rules} was not written by a {what}, and this one would overwrite it: move it, or name another output_dir"
        )


def hand_over(results: ComparisonResults, folder: Path, train: DataFacts) -> None:
    """
    Write `results.json` and a card beside the weights of every chosen run, as a Trainer does; the comparison's rules as
    `ftp-hf check` reads them; and a link to the recommended run. What was there before is replaced. `train` has the facts of
    the training data, which evaluations do not know.
    """
    # Plain fine-tuning comes last: a run that is another method's as well is described as plain.
    names = sorted((method.name for method in results.methods), key=lambda name: name == REFERENCE)
    for run in (run for name in names for run in results.chosen_runs(name)):
        if run.folder is not None:
            target = folder / run.folder
            write_run_files(summary_of(results, run, train), target, model_id=target.name)
    if results.rules:
        rules = {"metric": results.metric, "rules": results.rules}
        with replacing(folder / RULES) as part:
            text = yaml.safe_dump(rules, sort_keys=False, allow_unicode=True)
            part.write_text(f"{_OURS}{text}", encoding="utf-8")
    elif (folder / RULES).is_file() and _is_ours(folder / RULES):
        (folder / RULES).unlink()
    best, link = recommended(results), folder / BEST
    if link.is_symlink():
        link.unlink()
    if best is not None and best.folder is not None:
        # Systems without links, and a folder of a user that has this name: the run is named all the same.
        with suppress(OSError):
            link.symlink_to(best.folder, target_is_directory=True)


def what_next(results: ComparisonResults, folder: Path) -> list[str]:
    """Lines that say where the recommended run is, or why there is none, and the commands to go on with."""
    if not any(run.folder for run in results.all_chosen()):
        return [
            f"No weights are left: delete a run's folder in {folder / 'runs'} and start again, and it is trained again."
        ]
    best = recommended(results)
    rules = str(folder / RULES) if results.rules else None
    if best is None or best.folder is None:
        any_run = str(folder / "runs" / "RUN")
        return [
            f"{why_none(results)} The report lists the folders of all; with one of them:",
            *next_commands(any_run, rules),
        ]
    link, run = folder / BEST, folder / best.folder
    place = f"{link} (a link to {best.folder})" if link.is_symlink() else str(run)
    said = f"Recommended: {describe(results, best)}. Its weights, card and results.json are in {place}. Next:"
    return [said, *next_commands(str(link if link.is_symlink() else run), rules)]


def summary_of(results: ComparisonResults, run: ComparedRun, train: DataFacts) -> RunSummary:
    """
    The summary of a run, with the figures of the other seeds and of plain fine-tuning beside its own: of those of one
    configuration, which seeds that were run before and after an update of a library are not.
    """
    compares = run.method != REFERENCE and any(method.name == REFERENCE for method in results.methods)
    ours, plain = results.chosen_runs(run.method), results.chosen_runs(REFERENCE) if compares else []
    described = [
        [_described(results, each, train) for each in sorted(runs, key=lambda other: other.seed != run.seed)]
        for runs in (ours, plain)
    ]
    alike, plain_alike = ([each for each in of if each.config_hash == of[0].config_hash] for of in described)
    summary = combine(alike, {PLAIN: plain_alike} if plain_alike else None)
    shown = [each.seed for each in alike]
    return dataclasses.replace(summary, other_seeds=[each.seed for each in ours if each.seed not in shown])


def _is_ours(rules: Path) -> bool:
    return rules.read_bytes().startswith(_OURS.rstrip().encode())  # whatever ends its lines


def _described(results: ComparisonResults, run: ComparedRun, train: DataFacts) -> RunSummary:
    summary = run.summary
    known = {name.removeprefix("ftp_") for name in (*summary.hyperparameters, *summary.defaults)}
    own = {name: value for name, value in run.setting.items() if name not in known}
    return dataclasses.replace(
        summary,
        name=f"{results.name}-{run.method}-seed{run.seed}",
        hyperparameters={**summary.hyperparameters, **own},
        commands=[results.command] if results.command else summary.commands,
        data=[train, *(data for data in summary.data if data.kind != "train")],
    )
