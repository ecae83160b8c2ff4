"""
The question that users have: for four models, what a method keeps at the learning rate that ID validation chose for plain
fine-tuning and at ten times that; and what every method keeps at every rate and length.
"""

import functools
import math
import statistics

from measured import COMPARISONS, mean_of, measure_of, report, studies

from ftp_hf.common.figures import show, table
from ftp_hf.compare import ComparisonResults
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import REFERENCE, by_seed, finished_seeds, metric_of, pretrained_figure, tested
from ftp_hf.compare.evidence.rates import at_lengths_and_rates, at_rates, at_settings, epochs, safe_among
from ftp_hf.compare.evidence.results import RATE
from ftp_hf.compare.evidence.verdict import verdicts

FOUR = {
    "spoken_digits_rates": ("Whisper tiny.en learns digits; word errors in %, read speech", "retained/read_speech"),
    "smollm2_gsm8k_lengths": ("SmolLM2-135M learns school problems; loss, web texts", "retained/web"),
    "pacs_mobilenet_statistics_frozen": ("MobileNetV2 learns photos; accuracy in %, other styles", "ood"),
    "sts_embeddings_lengths": ("MiniLM learns news; Spearman, other sorts of text", "ood"),
}
"""Of studies in model_cards/comparisons: what is learnt and what is looked at, and which data that is."""

_KINDS = {"id": "ID", "ood": "OOD", "retained": "retained"}
_OURS = "ftp"
_TIMES = 10


def four() -> str:
    """A row for each of the four: before training, then plain fine-tuning → FTP and the difference, at both rates."""
    rows = [_row(name, about, kind) for name, (about, kind) in FOUR.items()]
    return table(["", "seeds", "before", "at the rate that validation chose", "at ten times that"], rows)


def _row(name: str, about: str, kind: str) -> list[str]:
    results = ComparisonResults.load(COMPARISONS / name)
    rate = results.method(REFERENCE).chosen[RATE]
    there = [found for other, found in at_rates(results).items() if math.isclose(other, _TIMES * rate)]
    before = pretrained_figure(results, kind)
    return [
        f"[{about}](model_cards/comparisons/{name}/report.md)",
        str(len(finished_seeds(results, _OURS))),
        "–" if before is None else show(before, metric_of(results, kind)),
        _cell(results, kind),
        _cell(there[0], kind) if there else "not run",
    ]


def _cell(results: ComparisonResults, kind: str) -> str:
    judged = next(verdict for verdict in verdicts(results) if verdict.method == _OURS)
    figures = " → ".join(mean_of(results, method, kind) for method in (REFERENCE, _OURS))
    return f"{figures} ({difference(judged.differences[kind], metric_of(results, kind))})"


def every_method(study: str, kinds: tuple[str, str] = ("id", "ood")) -> str:
    """
    What each method of a study that has rates came to at each of them on two kinds of data, and the rates at which every seed meets
    all of the study's rules; a row for each length where there are several.
    """
    results = ComparisonResults.load(COMPARISONS / study)
    by_length = at_lengths_and_rates(results)
    rates = list(next(iter(by_length.values())))
    rows = []
    before = {kind: pretrained_figure(results, kind) for kind in kinds}
    if None not in before.values():
        known = " / ".join(
            show(figure, metric_of(results, kind)) for kind, figure in before.items() if figure is not None
        )
        rows.append(["before training", *[known] * len(rates), ""])
    for method in (method.name for method in results.methods if RATE in method.chosen):
        for length, at_rate in by_length.items():
            title = f"`{method}`{'' if length is None else f', {epochs(length)}'}"
            figures = [" / ".join(mean_of(there, method, kind) for kind in kinds) for there in at_rate.values()]
            safe = ", ".join(f"{rate:g}" for rate in safe_among(at_rate, method)) or "none"
            rows.append([title, *figures, safe])
    return table(["", *(f"{rate:g}" for rate in rates), "all rules met at"], rows)


def rates() -> str:
    """Plain fine-tuning and FTP at each learning rate of the studies that were evaluated at all of theirs, but for several lengths."""
    rows = [[study, rate, *figures] for study, length, rate, _, *figures in _at_each_setting() if not length]
    return table(["study", "learning rate", *_KINDS.values()], rows)


def lengths() -> str:
    """The same of the studies with several lengths, and after which epochs the weights are kept."""
    rows = [row for row in _at_each_setting() if row[1]]
    return table(["study", "epochs", "learning rate", "kept after epoch", *_KINDS.values()], rows)


@functools.cache
def _at_each_setting() -> list[list[str]]:
    """Study, length if there are several, rate, the epochs after which weights are kept, and what [`_before_and_after`] has."""
    rows = []
    for name, results in sorted(studies().items()):
        study = f"{report(name)} ({measure_of(results)})"
        for length, rate, there in at_settings(results):
            if {REFERENCE, _OURS} <= {method.name for method in there.methods}:
                setting = ["" if length is None else f"{length:g}", f"{rate:g}"]
                kept = " → ".join(_kept(there, method, length) for method in (REFERENCE, _OURS)) if length else ""
                rows.append([study, *setting, kept, *(_before_and_after(there, kind) for kind in _KINDS)])
    return rows


def _kept(results: ComparisonResults, method: str, length: float) -> str:
    """After which of so many epochs the weights are kept, the first and the last of the seeds: `"1"`, `"2–5"`."""
    runs = [run.summary for run in results.chosen_runs(method)]
    kept = [length * run.kept_step / run.steps for run in runs if run.kept_step and run.steps]
    return "–".join(f"{epoch:g}" for epoch in sorted({min(kept), max(kept)}))


def _before_and_after(results: ComparisonResults, kind: str) -> str:
    """
    The means over the data sets of a kind that are measured as ID data are: of the pre-trained model where it can be measured, plain
    fine-tuning and FTP.
    """
    sets = [
        each for each in tested(results) if each.split("/")[0] == kind and metric_of(results, each) == results.metric
    ]
    before = [pretrained_figure(results, each) for each in sets]
    known = [figure for figure in before if figure is not None]
    figures = [statistics.fmean(known)] if known and len(known) == len(sets) else []
    for method in (REFERENCE, _OURS):
        means = [statistics.fmean(of_seed.values()) for each in sets if (of_seed := by_seed(results, method, each))]
        figures += [statistics.fmean(means)] if means else []
    return " → ".join(show(figure, results.metric) for figure in figures) or "–"
