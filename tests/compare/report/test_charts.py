"""What is in the charts, before they are pictures, and what is said below them."""

import pytest

from ftp_hf.compare.report.charts import draw_charts
from tests.support.comparisons import GAIN, PLAIN, comparison


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Name → (title, note, figure)."""
    monkeypatch.setattr("ftp_hf.compare.report.charts.save_charts", lambda drawn, _: drawn)
    return lambda results: {name: rest for name, *rest in draw_charts(results, tmp_path)}


@pytest.mark.parametrize(
    ("plain", "rows"),
    [
        (PLAIN, ["L2-SP  ID", "OOD", "FTP  ID", "OOD"]),
        ([(0.0, 0.6), (0.0, 0.7)], ["L2-SP  OOD", "FTP  OOD"]),
    ],
    ids=["both", "no-error-in-distribution"],
)
def test_the_first_row_of_a_method_has_its_name(drawn, plain, rows):
    results = comparison({"plain": plain, "l2-sp": GAIN, "ftp": GAIN}, metric="wer", corruptions=())
    *_, figure = drawn(results)["relative"]
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == rows


def test_colours_are_told_by_the_bar_as_the_dark_mode_turns_them_round(drawn):
    _, note, _ = drawn(comparison())["radii-ftp"]
    assert "bar's left end was kept near" in note
    assert not {"dark", "bright", "light"} & set(note.lower().split())
