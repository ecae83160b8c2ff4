"""The measures of a stream, on matrices whose figures were computed by hand."""

import pytest

from ftp_hf.compare.evidence.stream_measures import (
    average_after_stages,
    average_forgetting,
    backward_transfer,
    final_average,
    first_stage,
    forward_transfer,
    learning_accuracy,
    worst_stage,
)

# The second stage helps the first one; the third one makes it forget more than the second.
MATRIX = [
    [0.80, 0.30, 0.20],
    [0.90, 0.70, 0.40],
    [0.50, 0.60, 0.90],
]
BEFORE = [0.10, 0.20, 0.30]
ERRORS = [[1 - value for value in row] for row in MATRIX]


def test_of_accuracies():
    assert final_average(MATRIX) == pytest.approx((0.50 + 0.60 + 0.90) / 3)
    assert learning_accuracy(MATRIX) == pytest.approx((0.80 + 0.70 + 0.90) / 3)
    assert backward_transfer(MATRIX) == pytest.approx(((0.50 - 0.80) + (0.60 - 0.70)) / 2)
    assert average_forgetting(MATRIX) == pytest.approx(((0.90 - 0.50) + (0.70 - 0.60)) / 2)
    assert forward_transfer(MATRIX, BEFORE) == pytest.approx(((0.30 - 0.20) + (0.40 - 0.30)) / 2)
    assert worst_stage(MATRIX) == 0.50
    assert first_stage(MATRIX) == [0.80, 0.90, 0.50]
    assert average_after_stages(MATRIX) == pytest.approx([0.80, (0.90 + 0.70) / 2, (0.50 + 0.60 + 0.90) / 3])


def test_of_errors_transfers_have_the_same_sign():
    before = [1 - value for value in BEFORE]
    assert final_average(ERRORS) == pytest.approx(1 - final_average(MATRIX))
    assert backward_transfer(ERRORS, sign=-1) == pytest.approx(backward_transfer(MATRIX))
    assert average_forgetting(ERRORS, sign=-1) == pytest.approx(average_forgetting(MATRIX))
    assert forward_transfer(ERRORS, before, sign=-1) == pytest.approx(forward_transfer(MATRIX, BEFORE))
    assert worst_stage(ERRORS, sign=-1) == 0.50


def test_a_stage_that_gets_better_is_forgotten_by_less_than_nothing():
    better = [[0.5, 0.1], [0.7, 0.8]]
    assert average_forgetting(better) == pytest.approx(-0.2)
    assert backward_transfer(better) == pytest.approx(0.2)


def test_one_stage_has_no_transfer():
    assert final_average([[0.5]]) == worst_stage([[0.5]]) == learning_accuracy([[0.5]]) == 0.5
    assert backward_transfer([[0.5]]) is average_forgetting([[0.5]]) is forward_transfer([[0.5]], [0.1]) is None
