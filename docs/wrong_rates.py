"""
The question that users have: for four models, what a method keeps at the learning rate that ID validation chose for plain
fine-tuning and at ten times that; and what every method keeps at every rate.
"""

import math

from measured import COMPARISONS, mean_of

from ftp_hf.common.figures import show, table
from ftp_hf.compare import ComparisonResults
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import REFERENCE, finished_seeds, metric_of, pretrained_figure
from ftp_hf.compare.evidence.rates import at_lengths_and_rates, at_rates, epochs, safe_among
from ftp_hf.compare.evidence.results import RATE
from ftp_hf.compare.evidence.verdict import verdicts

FOUR = {
    "spoken_digits_rates": ("Whisper tiny.en learns digits; word errors in %, read speech", "retained/read_speech"),
    "smollm2_gsm8k_lengths": ("SmolLM2-135M learns school problems; loss, web texts", "retained/web"),
    "pacs_mobilenet_statistics_frozen": ("MobileNetV2 learns photos; accuracy in %, other styles", "ood"),
    "sts_embeddings_lengths": ("MiniLM learns news; Spearman, other sorts of text", "ood"),
}
"""Of studies in model_cards/comparisons: what is learnt and what is looked at, and which data that is."""

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
