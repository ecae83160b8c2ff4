"""What the evidence supports, in a sentence for each method and one for all."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ftp_hf.common.figures import MINUS, change, is_share, metric_named, show, together
from ftp_hf.runs.facts import PLAIN

from .differences import cost, differences_to_plain
from .formats import bound, difference, interval, mean, points
from .measures import (
    REFERENCE,
    diverged,
    finished_seeds,
    metric_of,
    pretrained_figure,
    retained,
    robust_kind,
    set_name,
    tested,
)
from .results import ComparisonResults, MethodFacts
from .statistics import LEAST_SEEDS, PairedDifference
from .tuning import collapse, open_sweeps

__all__ = ["KEPT", "Verdict", "headline", "verdicts"]

KEPT = 0.01
"""ID accuracy is called kept where the whole interval is within a point of plain fine-tuning."""

_LABELS = {"id": "ID", "ood": "OOD", "corrupted": "corrupted data"}
_PLACES = {"ood": "Out of distribution", "corrupted": "On corrupted data"}
_COUNTS = {0: "No seed", 1: "One seed", 2: "Two seeds"}
# The most methods whose intervals fit in one sentence.
_FEW = 2


@dataclass(frozen=True)
class Verdict:
    """What is known of a method beside plain fine-tuning."""

    method: str
    title: str
    sentence: str
    differences: dict[str, PairedDifference]
    """By the kind of the data, as [`tested`] has it."""
    metrics: dict[str, str]
    """What they are differences of."""

    @property
    def seeds(self) -> int:
        """How many seeds it shares with plain fine-tuning, on the kind of data where it shares most."""
        return self.seeds_on(*self.differences)

    def seeds_on(self, *kinds: str) -> int:
        """The same on these kinds of data."""
        return max((len(each.by_seed) for kind, each in self.differences.items() if kind in kinds), default=0)

    def is_whole(self, kind: str) -> bool:
        """Whether no figure of a seed on a kind of data is infinite or NaN, its own or one of plain fine-tuning's."""
        return kind not in self.differences or math.isfinite(self.differences[kind].mean)

    def sign(self, kind: str) -> int:
        """1 for a clear gain, -1 for a clear loss, 0 for what the seeds do not tell apart."""
        paired = self.differences.get(kind)
        if paired is None or not paired.is_clear:
            return 0
        return metric_named(self.metrics[kind]).sign * (1 if paired.mean > 0 else -1)


def verdicts(results: ComparisonResults) -> list[Verdict]:
    """What the evidence supports for each method, in the order of the config; nothing without a run of plain fine-tuning."""
    if not finished_seeds(results, REFERENCE):
        return []
    found = differences_to_plain(results)
    return [_verdict(results, method, found) for method in results.methods if method.name != REFERENCE]


def headline(results: ComparisonResults) -> str:
    """
    The main result in a sentence: which methods clearly differ from plain fine-tuning in robustness. If the sweeps make that
    doubtful, another sentence says why.
    """
    if all(method.name != REFERENCE for method in results.methods):
        return f"{PLAIN.capitalize()} is not among the methods: there is nothing to measure the others against."
    judged = [verdict for verdict in verdicts(results) if verdict.seeds]
    if not judged:
        return f"No method has a finished run beside {PLAIN} yet: there is nothing to conclude."
    if (most := max(verdict.seeds for verdict in judged)) < LEAST_SEEDS:
        return f"{_COUNTS[most]}: nothing can be concluded from this comparison."
    return collapse(results) or _conclusion(results, judged)


def _not_separated(place: str, kinds: Sequence[str], among: Sequence[Verdict], judged: Sequence[Verdict]) -> str:
    """That the seeds do not separate some of the judged methods from plain fine-tuning; empty if there are none."""
    if not among:
        return ""
    if (most := max(verdict.seeds_on(*kinds) for verdict in among)) < LEAST_SEEDS:
        return f"{place}, {_COUNTS[most].lower()}: nothing can be concluded."
    is_all = len(among) == len(judged)
    others, support = f"any of {'the ' * is_all}{len(among)} other methods", "supports none of them over it"
    if len(among) == 1:
        others, support = "the only other method" if is_all else "one other method", "does not support it"
    return f"{place}, {_seeds(among, kinds)} do not separate {others} from {PLAIN}: the evidence {support}."


def _conclusion(results: ComparisonResults, judged: Sequence[Verdict]) -> str:
    kind = robust_kind(results)
    kinds = [kind] if kind else retained(results)
    kept, lost = _retained(results, judged), _diverged(results, [REFERENCE, *(each.method for each in judged)])
    lost = lost and f"{lost}: figures that are not finite have no mean."
    if not kinds:
        said = "No OOD sets were evaluated: nothing can be said about robustness, only about ID accuracy."
        return _joined(said, lost)
    place = _PLACES[kind] if kind else "On retained data"
    whole = [verdict for verdict in judged if all(map(verdict.is_whole, kinds))]
    gains, losses = ([verdict for verdict in judged if kind and verdict.sign(kind) == sign] for sign in (1, -1))
    told_apart = [*gains, *losses]
    if kind and told_apart:
        above, below = _words(results.metric)
        said = f"{place}, {_groups(kind, (gains, above), (losses, below), again='it')}"
        rest = sum(verdict.sign(kind) == 0 for verdict in whole)
        others = "one other" if rest == 1 else f"{rest} others"
        said += f"; {_seeds(judged, kinds)} do not separate {others} from it." if rest else "."
    else:
        said = "" if kept and not kind else _not_separated(place, kinds, whole, judged)
    doubts = open_sweeps(results, [REFERENCE, *(verdict.method for verdict in told_apart or judged)])
    return _joined(said, kept, lost, doubts)


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _groups(kind: str, *groups: tuple[Sequence[Verdict], str], again: str = PLAIN) -> str:
    """`FTP (+1.8 points [+1.2, +2.4]) is above plain fine-tuning and SPD (−0.5 points [−0.7, −0.3]) is below it`."""
    there = [(group, word) for group, word in groups if group]
    return " and ".join(
        f"{together(_figures_of_group(group, kind))} {'is' if len(group) == 1 else 'are'} {word} {again if number else PLAIN}"
        for number, (group, word) in enumerate(there)
    )


def _words(metric: str) -> tuple[str, str]:
    return ("better than", "worse than") if metric_named(metric).less_is_better else ("above", "below")


def _retained(results: ComparisonResults, judged: Sequence[Verdict]) -> str:
    """What was kept of what the pre-trained model could do: a sentence for each set that tells methods apart."""
    sentences = []
    for kind in retained(results):
        gains, losses = ([each for each in judged if each.sign(kind) == sign] for sign in (1, -1))
        if not (gains or losses):
            continue
        metric, before = metric_of(results, kind), pretrained_figure(results, kind)
        above, below = _words(metric)
        known = "" if before is None else f", pre-trained {show(before, metric)}"
        sentences.append(
            f"On retained {_label(kind)} ({metric.replace('_', ' ')}{known}), {_groups(kind, (gains, above), (losses, below))}."
        )
    return _joined(*sentences)


def _verdict(
    results: ComparisonResults, method: MethodFacts, found: Mapping[tuple[str, str], PairedDifference]
) -> Verdict:
    differences = {kind: found[method.name, kind] for kind in tested(results) if (method.name, kind) in found}
    metrics = {kind: metric_of(results, kind) for kind in differences}
    verdict = Verdict(method.name, method.title, "", differences, metrics)
    return dataclasses.replace(verdict, sentence=_sentence(results, verdict))


def _sentence(results: ComparisonResults, verdict: Verdict) -> str:
    differences, title = verdict.differences, verdict.title
    if not differences:
        return f"{title}: no finished run yet that shares a seed with {PLAIN}."
    if (seeds := verdict.seeds) < LEAST_SEEDS:
        return f"{_COUNTS[seeds]}: nothing can be concluded about {title} ({_figures(verdict, differences)})."
    lost = _diverged(results, [REFERENCE, verdict.method])
    if not any(verdict.sign(kind) for kind in differences):
        separated = lost or f"{seeds} seeds do not separate {title} from {PLAIN}"
        return f"{separated}: {_figures(verdict, differences)}{_cost(results, verdict.method, '; ')}."
    left = [kind for kind in differences if not _is_claimed(verdict, kind)]
    not_separated = f"; not separated: {_figures(verdict, left)}" if left else ""
    said = f"{title} {_claims(verdict)}{_cost(results, verdict.method, ', ')}{not_separated}."
    return f"{said} {lost}." if lost else said


def _diverged(results: ComparisonResults, methods: Sequence[str]) -> str:
    """`FTP diverged in 1 of 3 seeds`; empty if none of the methods did."""
    counts = {name: (len(diverged(results, name)), len(finished_seeds(results, name))) for name in methods}
    return ", ".join(
        f"{results.method(name).title} diverged in {lost} of {count} seeds"
        for name, (lost, count) in counts.items()
        if lost
    )


def _is_claimed(verdict: Verdict, kind: str) -> bool:
    return verdict.sign(kind) != 0 or (kind == "id" and _is_kept(verdict.differences[kind], verdict.metrics[kind]))


def _claims(verdict: Verdict) -> str:
    """What the intervals support: what is kept, gained and lost."""
    claims = []
    if (identity := verdict.differences.get("id")) and _is_kept(identity, metric := verdict.metrics["id"]):
        claims.append(f"keeps ID within {bound(identity.bound, metric)}{points(metric)} of {PLAIN}")
    for sign, verb in ((1, "gains"), (-1, "loses")):
        changes = [_change(verdict, kind) for kind in verdict.differences if verdict.sign(kind) == sign]
        if changes:
            claims.append(f"{verb} {together(changes)}")
    return together(claims) if len(claims) < 3 else "; ".join(claims)


def _change(verdict: Verdict, kind: str) -> str:
    """`1.8 points OOD [+1.2, +2.4]`, or where less is better `on OOD, wer −1.8 points [−2.4, −1.2]`."""
    paired, metric = verdict.differences[kind], verdict.metrics[kind]
    if metric_named(metric).less_is_better:
        named = f"on {_label(kind)}, {metric.replace('_', ' ')}"
        return f"{named} {mean(paired, metric)}{points(metric)} {interval(paired, metric)}"
    where = f"{'' if kind in ('id', 'ood') else 'on '}{_label(kind)}"
    return f"{mean(paired, metric).lstrip(f'+{MINUS}')}{points(metric)} {where} {interval(paired, metric)}"


def _label(kind: str) -> str:
    return _LABELS.get(kind) or set_name(kind)


def _is_kept(paired: PairedDifference, metric: str) -> bool:
    """An interval around zero that is narrow enough to call it kept."""
    agrees_by_chance = paired.low == paired.high != 0
    return is_share(metric) and not paired.is_clear and not agrees_by_chance and paired.bound <= KEPT


def _figures(verdict: Verdict, kinds: Iterable[str]) -> str:
    """`ID +0.1 [−0.2, +0.4], OOD +1.9 (2 seeds)`: how many seeds there are, where others have more."""
    texts = []
    for kind in kinds:
        text = f"{_label(kind)} {difference(verdict.differences[kind], verdict.metrics[kind])}"
        fewer = (count := verdict.seeds_on(kind)) < verdict.seeds
        texts.append(f"{text} ({count} seed{'s' * (count > 1)})" if fewer else text)
    return ", ".join(texts)


def _figures_of_group(group: Sequence[Verdict], kind: str) -> list[str]:
    """`FTP (+1.8 points [+1.2, +2.4])` from the largest difference down, and what it costs in distribution, if clear."""
    texts = []
    for verdict in sorted(group, key=lambda verdict: -abs(verdict.differences[kind].mean)):
        paired, metric = verdict.differences[kind], verdict.metrics[kind]
        text = f"{mean(paired, metric)}{points(metric)}"
        if len(group) <= _FEW:
            text += f" {interval(paired, metric)}"
        if verdict.sign("id") < 0 and kind in ("ood", "corrupted"):
            text += f", ID {mean(verdict.differences['id'], verdict.metrics['id'])}"
        texts.append(f"{verdict.title} ({text})")
    return texts


def _cost(results: ComparisonResults, method: str, before: str) -> str:
    """`, at +4 % time per step and −10 % peak memory`."""
    fields = {"time per step": "seconds_per_step", "peak memory": "peak_memory_bytes"}
    costs = {label: cost(results, method, what) for label, what in fields.items()}
    parts = [f"{change(each.ratio)} {label}" for label, each in costs.items() if each and each.ratio is not None]
    return f"{before}at {' and '.join(parts)}" if parts else ""


def _seeds(judged: Sequence[Verdict], kinds: Sequence[str]) -> str:
    counts = sorted({count for verdict in judged if (count := verdict.seeds_on(*kinds))})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
