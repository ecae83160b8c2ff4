"""The chart of what a learning rate costs."""

from pathlib import Path

import pytest

from ftp_hf.compare import ComparisonResults
from ftp_hf.compare.report.rates import draw_rates

COMPARISONS = Path(__file__).parents[3] / "model_cards" / "comparisons"


def drawn(study):
    figure = draw_rates(ComparisonResults.load(COMPARISONS / study))
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


@pytest.fixture(scope="module")
def panels():
    return {title.split(":")[0]: axes for title, axes in drawn("spoken_digits_rates").items()}


def test_each_kind_of_data_has_all_methods_at_all_rates(panels):
    assert list(panels) == ["ID", "OOD mean", "read_speech"]
    for axes in panels.values():
        curves = [line for line in axes.lines if line.get_linestyle() == "-"]
        assert [list(line.get_xdata()) for line in curves] == [[1e-5, 3e-5, 1e-4, 3e-4, 1e-3]] * 2
        assert axes.yaxis_inverted()  # as less is better


def test_the_pretrained_model_is_a_line_where_it_leaves_the_others_room(panels):
    (before,) = [line for line in panels["read_speech"].lines if line.get_linestyle() == "--"]
    assert before.get_ydata()[0] == pytest.approx(20.2, abs=0.05)
    assert not panels["read_speech"].texts


def test_and_a_word_where_it_is_far_off(panels):
    assert [text.get_text() for text in panels["OOD mean"].texts] == ["before: 1061.5 ↓"]
    assert all(line.get_linestyle() == "-" for line in panels["OOD mean"].lines)


def test_panels_have_rates_below_them_where_one_in_their_row_has(panels):
    assert [len(axes.get_xticklabels()) for axes in panels.values()] == [5, 5, 5]


def test_axes_are_logarithmic_where_a_model_says_far_more_than_there_was_to_say():
    panels = drawn("spoken_digits_methods")
    assert list(panels) == ["ID: wer (%), log", "OOD mean: wer (%), log", "read_speech: wer (%)"]
    *compressed, linear = panels.values()
    for axes in compressed:
        bottom, top = axes.yaxis.get_transform().transform(axes.get_ylim())
        small, large = axes.yaxis.get_transform().transform([6, 35])
        assert (large - small) / (bottom - top) > 0.2
        assert axes.yaxis_inverted()
        assert {"0", "10", "100", "1000"} <= {label.get_text() for label in axes.get_yticklabels()}
        assert any(line.get_linestyle() == "--" for line in axes.lines)
    assert linear.get_yscale() == "linear"
