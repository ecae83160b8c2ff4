"""
Entities in sequences of tags, and how many of them a model finds.

Counted as conlleval, the script of the shared tasks that the tags come from, counts (Tjong Kim Sang and De Meulder, CoNLL
2003), and seqeval by default after it. Written here because seqeval's last release is of 2020, and comes as source alone.
"""

from collections.abc import Iterable, Sequence

__all__ = ["entities", "entity_scores", "type_scores"]

_PREFIXES = {"B": "B", "I": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
"""Beginning, inside, end (or last), single (or unit)."""

_OUTSIDE = "O"


def entities(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """
    The entities of a sentence, from the tags of its words in IOB1, IOB2, IOE, IOBES or BILOU: type, first word, and the word
    after the last.

    A word starts an entity where its tag says so (`B-`, `S-`), where the one before it ends one (`E-`, `S-`), is outside, or
    is of another type: so `I-` after `O` starts one, in IOB2 too, where it would be a slip. A tag without such a prefix, as of
    a part of speech, is an entity of its word alone.

    Example:
        ```python
        entities(["B-PER", "I-PER", "O", "B-LOC"])  # {("PER", 0, 2), ("LOC", 3, 4)}
        ```
    """
    found = set()
    start, before, kind = 0, _OUTSIDE, ""
    for index, tag in enumerate([*tags, _OUTSIDE]):
        prefix, name = _parts(tag)
        begins = prefix in ("B", "S", _OUTSIDE) or before in ("E", "S", _OUTSIDE) or name != kind
        if begins and before != _OUTSIDE:
            found.add((kind, start, index))
        if begins:
            start = index
        before, kind = prefix, name
    return found


def entity_scores(answers: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> dict[str, float]:
    """
    `"precision"`, `"recall"` and their harmonic mean `"f1"`, in [0, 1], over the entities of all sentences, from the tags of
    each: one is right if its type and both of its ends are. 0 where there is nothing to divide by.
    """
    counts = _counts(answers, truth)
    right, answered, true = (sum(of_type[number] for of_type in counts.values()) for number in range(3))
    return {
        "f1": 2 * right / max(1, answered + true),
        "precision": right / max(1, answered),
        "recall": right / max(1, true),
    }


def type_scores(answers: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> dict[str, float]:
    """The `f1` of [`entity_scores`], in [0, 1], for each type of entity that occurs, in the answers or in the truth."""
    counts = _counts(answers, truth)
    return {kind: 2 * right / (answered + true) for kind, (right, answered, true) in sorted(counts.items())}


def _counts(answers: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Of each type, how many entities are right, answered and there."""
    counts: dict[str, list[int]] = {}
    for given, expected in zip(answers, truth, strict=True):
        found, there = entities(given), entities(expected)
        for number, some in enumerate((found & there, found, there)):
            for kind, _, _ in some:
                counts.setdefault(kind, [0, 0, 0])[number] += 1
    return counts


def _parts(tag: str) -> tuple[str, str]:
    """The prefix, in IOBES, and the type."""
    prefix, _, kind = tag.partition("-")
    if tag == _OUTSIDE:
        return _OUTSIDE, ""
    return (_PREFIXES[prefix], kind) if prefix in _PREFIXES else ("S", tag)
