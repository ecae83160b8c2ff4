"""The chart of what a learning rate costs."""

from pathlib import Path

import pytest

from ftp_hf.compare import ComparisonResults
from ftp_hf.compare.report.rates import draw_rates

COMPARISONS = Path(__file__).parents[3] / "model_cards" / "comparisons"


@pytest.fixture(scope="module")
def panels():
    results = ComparisonResults.load(COMPARISONS / "spoken_digits_rates")
    return {axes.get_title(loc="left").split(":")[0]: axes for axes in draw_rates(results).axes}


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
