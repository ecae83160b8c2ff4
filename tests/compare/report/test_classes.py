"""Figures of each class, from the details of results to the tables of a report."""

import pytest

from ftp_hf.compare.evidence.classes import most_changed
from ftp_hf.compare.report.classes import classes
from ftp_hf.compare.report.write import report_texts
from ftp_hf.runs.facts import Evaluation
from tests.support.comparisons import GAIN, PLAIN, TIE, comparison

NAMES = [f"class {number}" for number in range(20)]


def with_classes(results, figures, kind="id"):
    """The same comparison with the recall of each class, {class: value} of each method, that of seed 0 a tenth higher."""
    for method, of_classes in figures.items():
        for run in results.chosen_runs(method):
            more = 0.1 * (run.seed == 0)
            (result, *_) = run.summary.of_kind(kind)
            values = {name: value + more for name, value in of_classes.items()}
            result.details["recall_by_class"] = {str(run.seed): values}
    return results


@pytest.fixture
def figures():
    plain = dict.fromkeys(NAMES, 0.5)
    return {"plain": plain, "ftp": {**plain, "class 7": 0.2, "class 3": 0.6}, "lora": {**plain, "class 11": 0.9}}


def test_the_classes_that_changed_most_come_first(figures):
    results = with_classes(comparison({"plain": PLAIN, "ftp": GAIN, "lora": TIE}), figures)
    assert most_changed(results, "id", "test") == [
        "class 11",
        "class 7",
        "class 3",
        *(name for name in NAMES if name not in ("class 11", "class 7", "class 3")),
    ]
    note, table = classes(results)
    assert note.text.endswith("At most 12 are shown of each data set; results.json has all 20.")
    assert table.header == ["ID test", "Plain fine-tuning", "FTP", "LoRA"]
    assert len(table.rows) == 12
    cells = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table.rows[:2]]
    assert cells == [
        ["class 11", "53.3 ± 5.8", "53.3 ± 5.8", "93.3 ± 5.8"],
        ["class 7", "53.3 ± 5.8", "23.3 ± 5.8", "53.3 ± 5.8"],
    ]


def test_beside_the_pretrained_model_where_plain_is_not_compared(figures):
    results = with_classes(comparison({"ftp": GAIN}), {"ftp": figures["ftp"]})
    before = dict.fromkeys(NAMES, 0.5 + 0.1 / 3)
    results.pretrained = [Evaluation("test", "id", {"accuracy": {"0": 0.5}}, {"recall_by_class": {"0": before}})]
    assert most_changed(results, "id", "test")[:2] == ["class 7", "class 3"]
    _, table = classes(results)
    assert table.header == ["ID test", "pre-trained", "FTP"]
    assert table.rows[0][1] == "53.3"


def test_with_nothing_to_differ_from_the_worst_come_first(figures):
    results = with_classes(comparison({"plain": PLAIN}), {"plain": figures["ftp"]})
    assert most_changed(results, "id", "test")[0] == "class 7"
    assert most_changed(results, "id", "test")[-1] == "class 3"


def test_each_ood_set_has_a_table_and_results_of_before_have_none(figures):
    results = comparison()
    assert classes(results) == []
    assert "Every class" not in report_texts(results, {})["report.md"]
    plain = {"plain": figures["plain"], "ftp": figures["ftp"]}
    with_classes(with_classes(results, plain), plain, "ood")
    assert [block.header[0] for block in classes(results)[1:]] == ["ID test", "OOD sketch"]
    assert "Every class" in report_texts(results, {})["report.md"]
