"""What is in the charts, before they are pictures, and what is said below them."""

import pytest

from ftp_hf.compare.report import charts
from tests.support.comparisons import GAIN, PLAIN, comparison


@pytest.fixture
def drawn():
    """Name → (title, note, figure)."""
    return lambda results: {name: rest for name, *rest in charts.drawn(results)}


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
    assert "bar's left end stayed near" in note
    assert not {"dark", "bright", "light"} & set(note.lower().split())


@pytest.mark.parametrize(
    ("figures", "metric", "wanted"),
    [([(0.0, 0.6), (0.0, 0.7)], "wer", (0, 0.6)), ([(1.0, 0.6), (1.0, 0.7)], "accuracy", (99.4, 100))],
    ids=["no-error", "no-other-answer"],
)
def test_ticks_of_what_is_traded_are_possible_values(drawn, figures, metric, wanted):
    results = comparison({"plain": figures, "ftp": figures}, metric=metric, corruptions=())
    *_, figure = drawn(results)["scatter"]
    ticks = figure.axes[0].get_xticks()
    assert (min(ticks), max(ticks)) == pytest.approx(wanted)


@pytest.mark.parametrize("methods", [["ftp"], ["ftp", "wise-ft"]], ids=["without", "with"])
def test_the_line_of_wise_ft_is_explained_where_it_is(drawn, methods):
    _, note, _ = drawn(comparison({"plain": PLAIN, **dict.fromkeys(methods, GAIN)}))["scatter"]
    assert ("WiSE-FT's way" in note) == ("wise-ft" in methods)
    assert "small ones the seeds" in note
