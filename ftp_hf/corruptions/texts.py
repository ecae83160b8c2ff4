"""Corruptions of texts: the slips of hurried writers, and what forms and pipelines do to their texts.

Written here because no library on the package index does it: nlpaug's last release is of 2022 and it draws
from global generators; TextAttack brings flair, jieba and a Java grammar checker along.

A severity is the share of what can be affected (letters, words, gaps, …) that is, growing geometrically from severity 1
to 5; at least one. Texts without any of it come back as they are: a text of one word has no neighbours to swap.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from .strength import check_kind, check_severity, generator, geometric

__all__ = ["TEXT_CORRUPTIONS", "corrupt_text"]

_T = TypeVar("_T")


def corrupt_text(text: str, kind: str, severity: int, seed: int = 0) -> str:
    """
    Corrupt a text.

    Args:
        text (`str`): in any language; `keyboard_typos` knows the letters of a QWERTY keyboard only, and uncased
            tokenizers see nothing of `random_casing`.
        kind (`str`): one of `TEXT_CORRUPTIONS`.
        severity (`int`): 1 (slight) to 5 (hard, but a person can still read it).
        seed (`int`, *optional*, defaults to 0): another seed affects other places.

    Returns:
        `str`: empty only if `text` is: where nothing else than whitespace would remain, `text` is returned.

    Raises:
        TypeError: `text` is no `str`.
        ValueError: there is no such kind or severity.
    """
    check_kind(kind, TEXT_CORRUPTIONS)
    check_severity(severity)
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    random = generator(seed, kind, text.encode("utf-8", "surrogatepass"))
    corrupt, first, last = _KINDS[kind]
    corrupted = corrupt(text, geometric(first, last, (severity - 1) / 4), random)
    return corrupted if corrupted.strip() else text


class _Kind(NamedTuple):
    """A corruption, and the share that it affects at severities 1 and 5."""

    corrupt: Callable[[str, float, np.random.RandomState], str]
    first: float
    last: float


def _chosen(candidates: Iterable[_T], share: float, random: np.random.RandomState) -> Iterator[_T]:
    """A share of the candidates, at least one, in random order. A larger share begins with those of a smaller one."""
    candidates = list(candidates)
    order = random.permutation(len(candidates))
    for index in order[: max(1, round(share * len(candidates)))]:
        yield candidates[index]


def _letters(characters: Iterable[str]) -> list[int]:
    return [index for index, character in enumerate(characters) if character.isalpha()]


def _inside_words(text: str) -> list[int]:
    """Where a letter is followed by a letter."""
    return [index for index in range(len(text) - 1) if text[index].isalpha() and text[index + 1].isalpha()]


def _words(text: str) -> list[str]:
    """The words, each with the whitespace after it; before the first one there may be some too."""
    return re.findall(r"^\s+|\S+\s*", text)


def _keyboard_typos(text: str, share: float, random: np.random.RandomState) -> str:
    """Letters become one of their neighbours on the keyboard."""
    characters = list(text)
    draws = random.random_sample(len(characters))
    on_keyboard = [index for index, character in enumerate(characters) if character.lower() in _NEIGHBOURS]
    for index in _chosen(on_keyboard, share, random):
        neighbours = _NEIGHBOURS[characters[index].lower()]
        typo = neighbours[int(draws[index] * len(neighbours))]
        characters[index] = typo.upper() if characters[index].isupper() else typo
    return "".join(characters)


def _character_deletion(text: str, share: float, random: np.random.RandomState) -> str:
    characters = list(text)
    for index in _chosen(_letters(text), share, random):
        characters[index] = ""
    return "".join(characters)


def _character_repetition(text: str, share: float, random: np.random.RandomState) -> str:
    characters = list(text)
    for index in _chosen(_letters(text), share, random):
        characters[index] *= 2
    return "".join(characters)


def _character_swap(text: str, share: float, random: np.random.RandomState) -> str:
    """Letters change places with the next one in the word."""
    characters = list(text)
    for index in _chosen(_inside_words(text), share, random):
        characters[index : index + 2] = reversed(characters[index : index + 2])
    return "".join(characters)


def _random_casing(text: str, share: float, random: np.random.RandomState) -> str:
    characters = list(text)
    cased = [index for index, character in enumerate(characters) if character.swapcase() != character]
    for index in _chosen(cased, share, random):
        characters[index] = characters[index].swapcase()
    return "".join(characters)


def _punctuation_removal(text: str, share: float, random: np.random.RandomState) -> str:
    characters = list(text)
    punctuation = [index for index, mark in enumerate(text) if unicodedata.category(mark).startswith("P")]
    for index in _chosen(punctuation, share, random):
        characters[index] = ""
    return "".join(characters)


def _whitespace_insertion(text: str, share: float, random: np.random.RandomState) -> str:
    """Spaces inside words."""
    characters = list(text)
    for index in _chosen(_inside_words(text), share, random):
        characters[index] += " "
    return "".join(characters)


def _whitespace_removal(text: str, share: float, random: np.random.RandomState) -> str:
    """Words that run into the next one."""
    words = _words(text)
    for index in _chosen(range(len(words) - 1), share, random):
        words[index] = words[index].rstrip()
    return "".join(words)


def _word_deletion(text: str, share: float, random: np.random.RandomState) -> str:
    words = _words(text)
    for index in _chosen(range(len(words)), share, random):
        words[index] = ""
    return "".join(words).rstrip()


def _word_swap(text: str, share: float, random: np.random.RandomState) -> str:
    """Words change places with the next one; the gaps stay."""
    pieces = re.split(r"(\s+)", text)
    words = [index for index in range(0, len(pieces), 2) if pieces[index]]
    for index in _chosen(words[:-1], share, random):
        pieces[index], pieces[index + 2] = pieces[index + 2], pieces[index]
    return "".join(pieces)


def _neighbours_on_qwerty() -> dict[str, str]:
    # Where the left edges of the rows are, in keys; each key touches those within 1.3 keys.
    rows = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
    place = {key: (x + edge, y) for y, (row, edge) in enumerate(rows) for x, key in enumerate(row)}
    return {
        key: "".join(other for other, (u, v) in place.items() if other != key and (x - u) ** 2 + (y - v) ** 2 < 1.3**2)
        for key, (x, y) in place.items()
    }


_NEIGHBOURS = _neighbours_on_qwerty()

_KINDS = {
    "character_deletion": _Kind(_character_deletion, 0.02, 0.15),
    "character_repetition": _Kind(_character_repetition, 0.03, 0.25),
    "character_swap": _Kind(_character_swap, 0.02, 0.15),
    "keyboard_typos": _Kind(_keyboard_typos, 0.02, 0.15),
    "punctuation_removal": _Kind(_punctuation_removal, 0.2, 1.0),
    "random_casing": _Kind(_random_casing, 0.05, 0.5),
    "whitespace_insertion": _Kind(_whitespace_insertion, 0.03, 0.2),
    "whitespace_removal": _Kind(_whitespace_removal, 0.1, 0.7),
    "word_deletion": _Kind(_word_deletion, 0.05, 0.35),
    "word_swap": _Kind(_word_swap, 0.05, 0.4),
}

TEXT_CORRUPTIONS = tuple(sorted(_KINDS))
"""The kinds of [`corrupt_text`]."""
