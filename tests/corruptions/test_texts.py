"""Corruptions of texts."""

import itertools
import random

import pytest

from ftp_hf.corruptions import SEVERITIES, TEXT_CORRUPTIONS, corrupt_text
from tests.support.samples import TEXTS

every_kind = pytest.mark.parametrize("kind", TEXT_CORRUPTIONS)


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@every_kind
def test_each_severity_is_further_from_the_original(kind):
    total = [sum(edit_distance(text, corrupt_text(text, kind, severity)) for text in TEXTS) for severity in SEVERITIES]
    assert total[0] >= len(TEXTS)
    assert all(weaker < stronger for weaker, stronger in itertools.pairwise(total)), total
    assert total[-1] < 0.5 * sum(map(len, TEXTS))


PINNED = {
    "character_deletion": "The acting as terible; the plot (what there was of it) mae no sense. I want my wo hours back!",
    "character_repetition": "TThe actinng was terriible; thhe plot (what there was off it) made no sense. I want my two hoours back!",
    "character_swap": "The acting was terribel; the lpot (what there was of it) made no sense. I wnat my two hours back!",
    "keyboard_typos": "The acting was rerrible; the pkot (what there was of it) made ni sense. I want my two hoyrs back!",
    "punctuation_removal": "The acting was terrible the plot (what there was of it) made no sense. I want my two hours back",
    "random_casing": "the actiNg Was terrible; tHe plot (wHAt there was of it) made no sense. I Want My twO houRs bAcK!",
    "whitespace_insertion": "The acting was t errible; the plot (what there wa s of it) made no s ense. I wan t my two hours back!",
    "whitespace_removal": "Theacting was terrible; the plot (what there wasof it) made no sense.I want my twohoursback!",
    "word_deletion": "The acting was terrible; (what there was of it) made no sense. I want my hours back!",
    "word_swap": "The was acting terrible; plot the (what there was of it) made no sense. I want my hours two back!",
}


@every_kind
def test_an_ood_set_stays_what_it_is(kind):
    random.seed(kind)
    assert corrupt_text(TEXTS[1], kind, 3) == PINNED[kind]


@every_kind
def test_another_seed_affects_other_places(kind):
    results = {corrupt_text(TEXTS[0], kind, 1, seed) for seed in range(4)}
    assert len(results) > 1


@pytest.mark.parametrize(
    ("kind", "changed", "of"),
    [
        ("keyboard_typos", 15, 100),
        ("random_casing", 50, 100),
        ("character_deletion", 15, 100),
        ("word_deletion", 7, 20),
    ],
)
def test_a_severity_is_a_share(kind, changed, of):
    text = " ".join(["abcde"] * 20)  # 100 letters, 20 words
    corrupted = corrupt_text(text, kind, 5)
    if kind == "word_deletion":
        assert len(corrupted.split()) == of - changed
    else:
        assert edit_distance(text, corrupted) == changed


def test_each_kind_does_what_it_is_called():
    text = TEXTS[1]
    letters = sorted(text)
    assert sorted(corrupt_text(text, "character_swap", 5)) == letters
    assert sorted(corrupt_text(text, "word_swap", 5).split()) == sorted(text.split())
    assert corrupt_text(text, "random_casing", 5).lower() == text.lower()
    for kind in ("whitespace_insertion", "whitespace_removal"):
        assert corrupt_text(text, kind, 5).replace(" ", "") == text.replace(" ", "")
    assert len(corrupt_text(text, "whitespace_insertion", 5).split()) > len(text.split())
    assert len(corrupt_text(text, "whitespace_removal", 5).split()) < len(text.split())
    assert corrupt_text(text, "punctuation_removal", 5) == "".join(c for c in text if c not in ";()!.")
    assert corrupt_text("a", "keyboard_typos", 1) in {"q", "w", "s", "z"}
    assert corrupt_text("P", "keyboard_typos", 1) in {"O", "L"}
    assert corrupt_text("ab", "character_repetition", 1) in {"aab", "abb"}
    assert corrupt_text("one  two", "word_swap", 1) == "two  one"
    assert corrupt_text("one two", "word_deletion", 5) in {"one", "two"}


@every_kind
@pytest.mark.parametrize(
    "text", ["", " ", "\n", "a", " a", "a ", "A.", "...", "word", " word ", "二", "🙂", "ß", "\ud800", "1 2"]
)
@pytest.mark.parametrize("severity", [1, 5])
def test_short_and_strange_texts_do_not_vanish(kind, text, severity):
    corrupted = corrupt_text(text, kind, severity)
    assert isinstance(corrupted, str)
    assert bool(corrupted.strip()) == bool(text.strip())


@every_kind
def test_other_scripts(kind):
    for text in ("Ой, какой чудесный фильм — смотреть всем!", "这部电影,真的 很好看。", "Żółć gęślą jaźń, naïve café!"):
        corrupted = corrupt_text(text, kind, 5)
        corrupted.encode()
        untouched = kind == "keyboard_typos" and not any("a" <= c.lower() <= "z" for c in text)
        uncased = kind == "random_casing" and text.lower() == text.upper()
        assert (corrupted == text) == (untouched or uncased)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"kind='typos' is no corruption.*character_deletion, .*word_swap"):
        corrupt_text("a", "typos", 1)
    with pytest.raises(ValueError, match=r"severity=6 must be a whole number from 1 to 5"):
        corrupt_text("a", "word_swap", 6)
    with pytest.raises(TypeError, match="text must be a str, got NoneType"):
        corrupt_text(None, "word_swap", 1)
