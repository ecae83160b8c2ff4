"""What a report says, section by section, in the order in which it is read."""

from collections.abc import Iterator, Mapping

from ftp_hf.common.figures import is_share, metric_title, show
from ftp_hf.compare.evidence.differences import differences_to_plain
from ftp_hf.compare.evidence.measures import (
    CURVE,
    chance,
    data_sets,
    finished_seeds,
    inert_corruptions,
    keeps_best,
)
from ftp_hf.compare.evidence.rates import what_is_safe
from ftp_hf.compare.evidence.results import RATE, ComparisonResults, MethodFacts
from ftp_hf.compare.evidence.small_rates import null_hypothesis
from ftp_hf.compare.evidence.statistics import LEAST_SEEDS
from ftp_hf.compare.evidence.tuning import at_edge, has_one_learning_rate, tied_with_chosen
from ftp_hf.compare.evidence.verdict import KEPT, verdicts

from .blocks import Block, Picture, Points, Section, Table, Text, how_to_repeat
from .classes import classes
from .distances import distances
from .tables import (
    costs_table,
    data_table,
    matched_table,
    means_table,
    most_moved_table,
    paired_table,
    rates_table,
    retained_table,
    rules_table,
    sets_table,
    sweep_table,
)
from .weights import weights

__all__ = ["sections", "unfinished"]


def sections(results: ComparisonResults, pictures: Mapping[str, Picture]) -> list[Section]:
    """The sections of a report; those without figures are left out."""
    radii = [picture for name, picture in pictures.items() if name.startswith("radii-")]
    possible = [
        Section("What the evidence supports", _verdicts(results)),
        Section("How to read this", [Points(list(_reading(results)))], folded=True),
        Section("In and out of distribution", [*_table(means_table(results)), *_of(pictures, "scatter")]),
        Section("What the model could do before", [*_retained(results), *_of(pictures, "retained")]),
        Section("What the learning rate costs", [*_rates(results), *_of(pictures, "rates")]),
        Section("Beside plain fine-tuning", [*_paired(results), *_of(pictures, "relative")]),
        Section(f"At the same ID {_metric(results)}", _matched(results)),
        Section("Rules", _rules(results)),
        Section("The weights", weights(results)),
        Section("Every data set", _table(sets_table(results)), folded=True),
        Section("Every class", classes(results), folded=True),
        Section("Corrupted data", [*_of(pictures, "severity", "corruptions"), *_inert(results)]),
        Section("Time and memory", [*_costs(results), *_of(pictures, "time", "memory")]),
        Section("Learned radii", radii),
        Section("Distance from the pre-trained model", distances(results)),
        Section("The parameters that moved most", _table(most_moved_table(results)), folded=True),
        Section("What was tried, and how it was chosen", _sweep(results), folded=True),
        Section("Data, seeds and machine", [Points(list(_setup(results))), *_table(data_table(results))], folded=True),
        Section("How to repeat it", how_to_repeat(results.command, results.config), folded=True),
    ]
    return [section for section in possible if section.blocks]


def unfinished(results: ComparisonResults) -> str:
    """Which runs are still to come; empty if none are."""
    done = {method.title: len(finished_seeds(results, method.name)) for method in results.methods}
    count = len(results.seeds)
    missing = [f"{title} has {number or 'none'} of {count}" for title, number in done.items() if number < count]
    return (
        f"Unfinished, seeds so far: {', '.join(missing)}. All figures are of the runs that have finished."
        if missing
        else ""
    )


def _of(pictures: Mapping[str, Picture], *names: str) -> list[Block]:
    return [pictures[name] for name in names if name in pictures]


def _table(table: Table, *notes: str) -> list[Block]:
    """A table and what is to be said about it; nothing if it is empty."""
    return [table, *(Text(note) for note in notes)] if table.rows else []


def _verdicts(results: ComparisonResults) -> list[Block]:
    judged = verdicts(results)
    if not judged:
        return []
    said = null_hypothesis(results)
    return [Points([("", verdict.sentence) for verdict in judged]), *([Text(said)] if said else [])]


def _reading(results: ComparisonResults) -> Iterator[tuple[str, str]]:
    yield "ID", "in distribution, test data like the training data."
    if data_sets(results, "ood"):
        yield "OOD", "out of distribution, real data that differ from it. Their mean counts every data set the same."
    if data_sets(results, "retained"):
        yield (
            "Retained",
            "data of what the pre-trained model could do before training, each measured in its own way; no setting is chosen by it.",
        )
    if data_sets(results, "corrupted"):
        yield "Corrupted", "test data with artificial damage, from severity 1, barely visible, to 5, hard."
    points = "; differences are in points, one of a hundred" if is_share(results.metric) else ""
    yield "Figures", f"{metric_title(results.metric)}{points}."
    if points:
        yield (
            "Keeps ID",
            (
                f"said where the seeds do not tell ID apart, and the whole interval is within {100 * KEPT:g} point of plain "
                "fine-tuning."
            ),
        )
    yield "±", "the standard deviation over the seeds: how much one run differs from the next."
    yield (
        "[low, high]",
        (
            "the 95 % interval (Student's t) of the mean difference to plain fine-tuning, taken between runs of the same seed, "
            f"from {LEAST_SEEDS} seeds on, within what is possible. Where it contains zero, the seeds do not tell the methods "
            "apart, and no claim is made. It covers what varies between seeds: not other test data, and not other models."
        ),
    )
    yield (
        "Settings",
        (
            "chosen on ID validation data only. The shift that a model will meet is not known beforehand, so a setting chosen "
            "on OOD data would promise too much. No setting was chosen on test data, ID or OOD."
            + _LEARNS_FROM_VALIDATION
            * any(method.name == "tpgm" for method in results.methods)
        ),
    )
    if (best := keeps_best(results)) is not None:
        yield (
            "Weights",
            "those of a run after the epoch with the best ID validation, which need not be the last."
            if best
            else "those of a run after its last epoch.",
        )
    if (count := sum(each.is_known for each in differences_to_plain(results).values())) > 1:
        yield (
            "Many methods",
            (
                f"of {count} intervals against plain fine-tuning, one in twenty leaves zero out by chance. "
                "So a difference is claimed, and bold, only where p is at most 0.05 after Holm's correction for the number of "
                "methods, on each kind of data by itself; some intervals without zero are not."
            ),
        )
    if (guessed := chance(results)) is not None:
        yield (
            "Chance",
            f"guessing one of the classes gives {show(guessed, results.metric)}; dotted in the charts where it is near.",
        )


_LEARNS_FROM_VALIDATION = (
    " TPGM also learns its radii on the validation data, as its authors do: its validation figure flatters it."
)


def _metric(results: ComparisonResults) -> str:
    return results.metric.replace("_", " ")


def _retained(results: ComparisonResults) -> list[Block]:
    return _table(
        retained_table(results),
        "In brackets: the change from the pre-trained model; where that is for the worse, it is what training has forgotten.",
    )


def _paired(results: ComparisonResults) -> list[Block]:
    return _table(
        paired_table(results),
        "Differences to plain fine-tuning over the same seeds, with their 95 % intervals; bold where they are clear, "
        "corrected for their number (Holm). "
        "Δ % is the change of the mean relative to plain fine-tuning, as the papers have it.",
    )


def _rates(results: ComparisonResults) -> list[Block]:
    table = rates_table(results)
    return _table(
        table,
        f"At every learning rate {'and length ' * ('epochs' in table.header)}that was tried, with a method's other settings as "
        "chosen. A rate is chosen on ID validation "
        "data, which do not show what is lost elsewhere: a method is safe where its figures hardly depend on the rate.",
        *filter(None, [what_is_safe(results)]),
    )


def _matched(results: ComparisonResults) -> list[Block]:
    if not data_sets(results, "ood") or all(method.name != CURVE for method in results.methods):
        return []
    return _table(
        matched_table(results),
        "Methods trade ID for OOD. WiSE-FT's curve, the weights between pre-trained and plain fine-tuned ones, is a trade "
        "that costs no training: the figures are each method's OOD mean minus the curve's, of the same seed and at the "
        f"same ID {_metric(results)}, with 95 % intervals, bold where clear as above. They are not defined where the curve does "
        f"not reach the method's ID {_metric(results)}, and those seeds are left out.",
    )


def _rules(results: ComparisonResults) -> list[Block]:
    return _table(
        rules_table(results),
        "How many runs of each method meet a rule at the end of training. The command ftp-hf check holds a single model "
        "against the same rules, and RobustnessGuard a training while it runs. A method that was picked by rules on OOD "
        "data has to be judged on other OOD data.",
    )


def _inert(results: ComparisonResults) -> list[Block]:
    if not (kinds := inert_corruptions(results)):
        return []
    return [
        Text(
            f"Left out of these charts and of every mean over corrupted data: {', '.join(kinds)}. All models answer each of its "
            "severities alike, as an uncased tokenizer makes them do with other casing: it takes nothing from them."
        )
    ]


_BESIDE_THE_OPTIMIZER = {"l2-sp", "spd", "tpgm", "ewc", "kl", "ldifs", "flow", "lp-flow"}
"""The methods that keep anchors or a model there."""


def _costs(results: ComparisonResults) -> list[Block]:
    devices = _devices(results)
    table = costs_table(results)
    if len(table.header) == 1:
        return []
    note = (
        "In brackets: the change relative to plain fine-tuning on the same device, where the seeds tell it apart. Time per "
        "step is the median of a run."
    )
    if any(device.startswith("CPU") for device in devices):
        note += " On a CPU, peak memory includes what earlier runs left behind, and is not compared."
    names = {method.name for method in results.methods}
    if probed := [title for name, title in (("lp-ft", "LP-FT"), ("lp-flow", "LP-FLOW")) if name in names]:
        note += f" {' and '.join(probed)}'s training time excludes the linear probe that it starts from."
    if names & _BESIDE_THE_OPTIMIZER and any("ftp" in name for name in names):
        note += (
            " FTP's optimizer state holds its anchors; what other methods keep of the pre-trained model is uncounted."
        )
    if len(devices) > 1:
        note += f" Runs were made on {len(devices)} kinds of device; those on different ones are not compared."
    return _table(table, note)


def _sweep(results: ComparisonResults) -> list[Block]:
    edges = [
        f"{method.title} ({name} {value:g})"
        for method in results.methods
        for name, value in at_edge(results, method).items()
    ]
    single = [
        f"{method.title} ({method.sweep[RATE][0]:g})"
        for method in results.methods
        if has_one_learning_rate(results, method)
    ]
    notes = [
        f"ID validation is that of seed {results.seeds[0]}; the setting in bold was chosen by it alone, and run with all seeds."
    ]
    if ties := [said for method in results.methods if (said := _tied(results, method))]:
        notes.append(f"Tied with others in ID validation, exactly: {'; '.join(ties)}.")
    if edges:
        notes.append(
            f"Chosen at the edge of what was tried, so that more may be possible beyond it: {', '.join(edges)}."
        )
    if single:
        notes.append(f"With a single learning rate, so that another may do better: {', '.join(single)}.")
    return _table(sweep_table(results), *notes)


def _tied(results: ComparisonResults, method: MethodFacts) -> str:
    """`FTP with 4 others, the smallest rate of them`; empty if its chosen setting alone is the best."""
    if not (others := tied_with_chosen(results, method)):
        return ""
    rates = [each[RATE] for each in (method.chosen, *others) if RATE in each]
    is_smallest = len({*rates}) > 1 and method.chosen[RATE] == min(rates)
    count = f"{len(others)} other{'s' * (len(others) > 1)}"
    return f"{method.title} with {count}, the {'smallest rate' if is_smallest else 'first'} of them"


def _setup(results: ComparisonResults) -> Iterator[tuple[str, str]]:
    models = dict.fromkeys(run.summary.base_model.name for run in results.runs if run.summary.base_model)
    sizes = dict.fromkeys(
        run.summary.base_model.parameters
        for run in results.runs
        if run.summary.base_model and run.summary.base_model.parameters
    )
    if models:
        yield "Model", ", ".join(models) + (f" ({max(sizes):,} parameters)" if len(sizes) == 1 else "")
    yield "Seeds", ", ".join(map(str, results.seeds))
    for method in results.methods:
        yield method.title, method.source
    if devices := _devices(results):
        yield "Machine", "; ".join(devices)
    versions: dict[str, dict[str, None]] = {}
    for run in results.runs:
        for library, version in run.summary.versions.items():
            versions.setdefault(library, {})[version] = None
    if versions:
        yield "Versions", ", ".join(f"{library} {' and '.join(used)}" for library, used in versions.items())
    if commits := dict.fromkeys(run.summary.commit for run in results.runs if run.summary.commit):
        yield "Commit", ", ".join(commits)


def _devices(results: ComparisonResults) -> list[str]:
    machines = [run.summary.hardware for run in results.runs if run.summary.hardware]
    return list(
        dict.fromkeys(
            each.device + (f", {each.processes} processes" if each.processes > 1 else "") for each in machines
        )
    )
