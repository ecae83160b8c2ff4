import pytest

from ftp_hf.tasks.entities import entities, entity_scores


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("B-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("O I-PER I-PER O", {("PER", 1, 3)}),  # IOB1, or a slip
        ("I-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("B-PER I-PER E-PER S-PER E-PER", {("PER", 0, 3), ("PER", 3, 4), ("PER", 4, 5)}),
        ("S-LOC I-LOC", {("LOC", 0, 1), ("LOC", 1, 2)}),
        ("B-PER S-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("B-PER L-PER U-LOC U-LOC", {("PER", 0, 2), ("LOC", 2, 3), ("LOC", 3, 4)}),  # BILOU
        ("B-PER L-PER I-PER", {("PER", 0, 2), ("PER", 2, 3)}),
        ("U-PER I-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("B I O B", {("", 0, 2), ("", 3, 4)}),
        ("NOUN NOUN VERB", {("NOUN", 0, 1), ("NOUN", 1, 2), ("VERB", 2, 3)}),
        ("person-actor O", {("person-actor", 0, 1)}),
        ("B-time-of-day I-time-of-day", {("time-of-day", 0, 2)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_entities_begin_and_end(tags, expected):
    assert entities(tags.split()) == expected


def test_an_entity_is_right_if_its_type_and_both_of_its_ends_are():
    truth = ["B-PER I-PER O B-LOC O B-LOC", "B-PER O"]
    answers = ["B-PER O O B-LOC O B-PER", "B-PER B-LOC"]
    # Right: one place and one person; four were there, five were answered.
    assert entity_scores([a.split() for a in answers], [t.split() for t in truth]) == {
        "f1": pytest.approx(2 * 2 / (4 + 5)),
        "precision": pytest.approx(2 / 5),
        "recall": pytest.approx(2 / 4),
    }


def test_where_nothing_is_there_or_answered_scores_are_zero():
    assert entity_scores([["O"]], [["O"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert entity_scores([["O"]], [["B-PER"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
