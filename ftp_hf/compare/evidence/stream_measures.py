"""
What a stream is judged by, as functions of its accuracy matrix alone.

`matrix[i][j]` is the figure on the test set of stage j after the training of stage i, both counted from 0 in the order of the
stream: R in Lopez-Paz and Ranzato (GEM, NeurIPS 2017, arXiv 1706.08840), whose definitions of average accuracy, backward and
forward transfer these are. Forgetting is that of Chaudhry et al. (ECCV 2018, arXiv 1801.10112), learning accuracy that of
Riemer et al. (ICLR 2019, arXiv 1810.11910).

`sign` is 1 where more of the metric is better, and −1 where less is, such as for word errors. Averages and the worst stage are
in units of the metric; of transfers more is better, of forgetting less, whatever the metric.
"""

import math
import statistics
from collections.abc import Sequence

from .statistics import known_mean

__all__ = [
    "Matrix",
    "average_after_stages",
    "average_forgetting",
    "backward_transfer",
    "final_average",
    "first_stage",
    "forward_transfer",
    "learning_accuracy",
    "worst_stage",
]

Matrix = Sequence[Sequence[float]]


def final_average(matrix: Matrix) -> float:
    """`ACC = 1/T Σ_j R[T−1, j]`: the mean over all stages after the last one."""
    return statistics.fmean(matrix[-1])


def learning_accuracy(matrix: Matrix) -> float:
    """`LA = 1/T Σ_j R[j, j]`: the mean over the stages, each right after it was trained."""
    return statistics.fmean(matrix[stage][stage] for stage in range(len(matrix)))


def backward_transfer(matrix: Matrix, sign: int = 1) -> float | None:
    """`BWT = 1/(T−1) Σ_{j<T−1} R[T−1, j] − R[j, j]`: what the later stages did to the earlier ones; `None` of one stage."""
    earlier = range(len(matrix) - 1)
    return known_mean([sign * (matrix[-1][stage] - matrix[stage][stage]) for stage in earlier])


def average_forgetting(matrix: Matrix, sign: int = 1) -> float | None:
    """`F = 1/(T−1) Σ_{j<T−1} max_{l<T−1} R[l, j] − R[T−1, j]`: the best that a stage ever was, less what is left of it."""
    earlier = range(len(matrix) - 1)
    return known_mean(
        [_largest([sign * row[stage] for row in matrix[:-1]]) - sign * matrix[-1][stage] for stage in earlier]
    )


def forward_transfer(matrix: Matrix, before: Sequence[float], sign: int = 1) -> float | None:
    """
    `FWT = 1/(T−1) Σ_{j>0} R[j−1, j] − b[j]`: what the earlier stages are worth to one that was not trained yet; b is `before`,
    the figures of the model before any stage.
    """
    return known_mean([sign * (matrix[stage - 1][stage] - before[stage]) for stage in range(1, len(matrix))])


def worst_stage(matrix: Matrix, sign: int = 1) -> float:
    """The figure of the stage that is worst after the last one."""
    return -sign * _largest([-sign * value for value in matrix[-1]])


def first_stage(matrix: Matrix) -> list[float]:
    """`R[i, 0]`: what is left of the first stage after each."""
    return [row[0] for row in matrix]


def average_after_stages(matrix: Matrix) -> list[float]:
    """After each stage, the mean over those that were trained by then."""
    return [statistics.fmean(row[: number + 1]) for number, row in enumerate(matrix)]


def _largest(values: Sequence[float]) -> float:
    """NaN where one is not finite: what is larger than NaN depends on which of the two comes first."""
    return max(values) if all(map(math.isfinite, values)) else math.nan
