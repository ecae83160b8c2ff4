"""The measures of a stream, on matrices whose figures were computed by hand."""

import math
from statistics import fmean

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


@pytest.mark.parametrize("row", [[math.nan, 0.5, 0.9], [0.5, math.nan, 0.9], [math.inf, math.nan, 0.9]])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_figure_that_is_not_finite_is_not_passed_over(row, sign):
    assert math.isnan(worst_stage([*MATRIX[:2], row], sign))
    for number in range(2):
        matrix = [*MATRIX[:number], row, *MATRIX[number + 1 :]]
        assert math.isnan(average_forgetting(matrix, sign))


def test_against_the_libraries_of_the_field():
    """
    What Avalanche 0.6's `BWT`, `Forgetting` and `ForwardTransfer` and the functions of Mammoth's `utils/metrics.py` returned for
    this matrix. Avalanche imports torchvision, which there is no build of for every torch, and Mammoth is no package: neither can
    be imported here.
    """
    matrix = [[0.91, 0.12, 0.35, 0.20], [0.74, 0.88, 0.31, 0.26], [0.79, 0.90, 0.86, 0.22], [0.66, 0.93, 0.71, 0.84]]
    avalanche = {
        "BWT": [-0.25, 0.05, -0.15],
        "Forgetting": [0.25, -0.05, 0.15],
        "ForwardTransfer": [-0.08, 0.01, -0.02],
    }
    mammoth = {"backward_transfer": -0.35 / 3, "forgetting": 0.40 / 3, "forward_transfer": -0.03}
    before = [0.25, 0.20, 0.30, 0.24]
    assert (
        backward_transfer(matrix)
        == pytest.approx(fmean(avalanche["BWT"]))
        == pytest.approx(mammoth["backward_transfer"])
    )
    assert forward_transfer(matrix, before) == pytest.approx(fmean(avalanche["ForwardTransfer"]))
    assert forward_transfer(matrix, before) == pytest.approx(mammoth["forward_transfer"])
    # Forgetting is another thing in each: Avalanche's is from right after the stage on, and Mammoth counts the last figure among
    # the best, so that the second stage, which ended better than it ever was, is not below zero there.
    assert fmean(avalanche["Forgetting"]) == pytest.approx(-backward_transfer(matrix))
    lost = [max(row[stage] for row in matrix[:-1]) - matrix[-1][stage] for stage in range(3)]
    assert average_forgetting(matrix) == pytest.approx(fmean(lost)) == pytest.approx(0.37 / 3)
    assert mammoth["forgetting"] == pytest.approx(fmean(max(each, 0) for each in lost))


def test_one_stage_has_no_transfer():
    assert final_average([[0.5]]) == worst_stage([[0.5]]) == learning_accuracy([[0.5]]) == 0.5
    assert backward_transfer([[0.5]]) is average_forgetting([[0.5]]) is forward_transfer([[0.5]], [0.1]) is None
