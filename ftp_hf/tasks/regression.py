"""Texts and images with a number for each."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset
from scipy.stats import spearmanr
from transformers import EvalPrediction

from ftp_hf.common.documented import with_help
from ftp_hf.common.figures import metric_named

from .classifier import OtherHeadTask
from .image import ImageOptions, ImageTask
from .row_checks import check_column, check_numbers
from .text import TextOptions, TextTask

__all__ = [
    "ImageRegressionOptions",
    "ImageRegressionTask",
    "RegressionOptions",
    "RegressionTask",
    "TextRegressionOptions",
    "TextRegressionTask",
]


@with_help
@dataclass
class RegressionOptions:
    """
    Args:
        target_column (`str`, *optional*, defaults to `"score"`): the column of numbers.
    """

    target_column: str = "score"


@with_help
@dataclass
class TextRegressionOptions(RegressionOptions, TextOptions):
    """
    As [`TextOptions`] and [`RegressionOptions`].

    Args:
        second_text_column (`str`, *optional*): the column of texts that each text is read together with, such as a paraphrase.
    """

    second_text_column: str | None = None


@with_help
@dataclass
class ImageRegressionOptions(RegressionOptions, ImageOptions):
    """As [`ImageOptions`] and [`RegressionOptions`]."""


Numbers = TypeVar("Numbers", bound=RegressionOptions)


class RegressionTask(OtherHeadTask[Numbers]):
    """
    A number for each row, learnt by squared error. `mae` is the mean absolute error, `rmse` the root of the mean squared
    one, both in the unit of the numbers, and `spearman` the correlation of ranks, 0 where all answers are equal.

    One number is no distribution of answers: the function distance is that of the last hidden states.
    """

    problem_type = "regression"
    metrics = tuple(map(metric_named, ("mae", "rmse", "spearman")))
    has_labels = False
    has_logits = False

    def __init__(self, model: str, options: Numbers | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.label_column = self.options.target_column
        self.labels = [self.label_column]

    def targets(self, column: list[Any]) -> list[Any]:
        """The numbers, as such with a point."""
        return [float(value) for value in column]

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: there is no column of numbers, one of them is missing or not finite, or as for one class.
        """
        super().check(name, dataset)
        check_column(name, dataset, self.label_column, "target_column")
        check_numbers(name, dataset, self.label_column)

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """`"mae"`, `"rmse"` and `"spearman"`, of answers (rows, 1) and numbers (rows,)."""
        numbers = np.asarray(prediction.label_ids, dtype=np.float64).reshape(-1)
        answers = np.asarray(prediction.predictions, dtype=np.float64).reshape(-1)
        difference = answers - numbers
        equal = np.ptp(answers) == 0 or np.ptp(numbers) == 0
        return {
            "mae": float(np.abs(difference).mean()),
            "rmse": float(np.sqrt(np.square(difference).mean())),
            "spearman": 0.0 if equal else float(spearmanr(answers, numbers).statistic),
        }


class TextRegressionTask(RegressionTask[TextRegressionOptions], TextTask):
    """A number for each text, or pair of texts; metrics as of [`RegressionTask`]."""

    options_class = TextRegressionOptions
    input_columns = ("text_columns", "second_text_column")

    def columns(self, dataset: Dataset, name: str) -> list[str]:
        """As of [`TextTask`], and the second one of a pair."""
        found, second = super().columns(dataset, name), self.options.second_text_column
        if second is None:
            return found
        check_column(name, dataset, second, "second_text_column")
        return [*found, second]


class ImageRegressionTask(RegressionTask[ImageRegressionOptions], ImageTask):
    """A number for each image; metrics as of [`RegressionTask`]."""

    options_class = ImageRegressionOptions
