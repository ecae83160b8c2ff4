"""Texts and images with other heads than that of one class: several classes for each row, or a number."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import spearmanr
from torch import Tensor, nn
from transformers import EvalPrediction

from ftp_hf.common.figures import metric_named

from .classifier import ClassificationTask
from .image import ImageOptions, ImageTask
from .specs import is_listed
from .task import Options
from .text import TextOptions, TextTask

__all__ = [
    "ImageRegressionOptions",
    "ImageRegressionTask",
    "MultiLabelImageTask",
    "MultiLabelTask",
    "MultiLabelTextTask",
    "RegressionOptions",
    "RegressionTask",
    "TextRegressionOptions",
    "TextRegressionTask",
]


class _OtherHeadTask(ClassificationTask[Options]):
    problem_type: ClassVar[str]

    def __init__(self, model: str, options: Options | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.collator = partial(_floating, self.collator)

    def head_options(self) -> dict[str, Any]:
        """As of [`ClassificationTask`], with the kind of the loss."""
        return {**super().head_options(), "problem_type": self.problem_type}


class MultiLabelTask(_OtherHeadTask[Options]):
    """
    Any number of classes for each row, a probability each: the label column holds lists of class indices, empty ones too.

    A class is answered where its probability is above one half. `f1_micro` is of all answers together, `f1_macro` the mean
    over the classes that occur in a data set, in its labels or in the answers, and `exact_match` the share of the rows of
    which all classes are right.
    """

    problem_type = "multi_label_classification"
    metrics = tuple(map(metric_named, ("f1_micro", "f1_macro", "exact_match")))

    def targets(self, column: list[Any]) -> list[Any]:
        """1 for each class of a row, and 0 for the others."""
        return [[float(index in row) for index in range(len(self.labels))] for row in column]

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the label column holds no lists, or as for one class.
        """
        super().check(name, dataset)
        if not is_listed(dataset, self.label_column):
            raise ValueError(
                f"the column {self.label_column!r} of {name} must hold lists of class indices, not "
                f"{dataset.features[self.label_column]}"
            )

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        Args:
            prediction (`EvalPrediction`): logits and labels of 0 and 1, (rows, classes).

        Returns:
            `dict[str, float]`: `"f1_micro"`, `"f1_macro"` and `"exact_match"`, in [0, 1].
        """
        labels, answers = np.asarray(prediction.label_ids) > 0, np.asarray(prediction.predictions) > 0
        right, counted = (labels & answers).sum(axis=0), labels.sum(axis=0) + answers.sum(axis=0)
        occurring = counted > 0
        return {
            "f1_micro": float(2 * right.sum() / max(1, counted.sum())),
            "f1_macro": float((2 * right[occurring] / counted[occurring]).mean()) if occurring.any() else 0.0,
            "exact_match": float((labels == answers).all(axis=1).mean()),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`]: of each class whether it is answered, (rows, classes, 2)."""
        logits, _ = super().logits(model, batch)
        return torch.stack([torch.zeros_like(logits), logits], dim=-1), torch.ones_like(logits, dtype=torch.bool)


class MultiLabelTextTask(MultiLabelTask[TextOptions], TextTask):
    """Any number of classes for each text; metrics and label column as of [`MultiLabelTask`]."""


class MultiLabelImageTask(MultiLabelTask[ImageOptions], ImageTask):
    """Any number of classes for each image; metrics and label column as of [`MultiLabelTask`]."""


@dataclass
class RegressionOptions:
    """
    Args:
        target_column (`str`, *optional*, defaults to `"score"`): the column of numbers.
    """

    target_column: str = field(default="score", metadata={"help": "The column of numbers."})


@dataclass
class TextRegressionOptions(RegressionOptions, TextOptions):
    """As [`TextOptions`], and `target_column` (`str`, *optional*, defaults to `"score"`), the column of numbers."""


@dataclass
class ImageRegressionOptions(RegressionOptions, ImageOptions):
    """As [`ImageOptions`], and `target_column` (`str`, *optional*, defaults to `"score"`), the column of numbers."""


Numbers = TypeVar("Numbers", bound=RegressionOptions)


class RegressionTask(_OtherHeadTask[Numbers]):
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
        column = self.label_column
        if column not in dataset.column_names:
            raise ValueError(
                f"no column {column!r} in {name} with the columns {dataset.column_names}: name it in target_column"
            )
        for row, value in enumerate(dataset[column]):
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"row {row} of {name} has {value!r} in {column!r}: it must be a finite number")

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """`"mae"`, `"rmse"` and `"spearman"`, of answers (rows, 1) and numbers (rows,)."""
        numbers = np.asarray(prediction.label_ids, dtype=np.float64).reshape(-1)
        answers = np.asarray(prediction.predictions, dtype=np.float64).reshape(-1)
        difference = answers - numbers
        ranked = np.ptp(answers) > 0 and np.ptp(numbers) > 0
        return {
            "mae": float(np.abs(difference).mean()),
            "rmse": float(np.sqrt(np.square(difference).mean())),
            "spearman": float(spearmanr(answers, numbers).statistic) if ranked else 0.0,
        }


class TextRegressionTask(RegressionTask[TextRegressionOptions], TextTask):
    """A number for each text; metrics as of [`RegressionTask`]."""

    options_class = TextRegressionOptions


class ImageRegressionTask(RegressionTask[ImageRegressionOptions], ImageTask):
    """A number for each image; metrics as of [`RegressionTask`]."""

    options_class = ImageRegressionOptions


def _floating(collator: Callable[[Any], dict[str, Tensor]], rows: Any) -> dict[str, Tensor]:
    """What a collator makes; the losses take floating point, and data sets keep whole numbers as such."""
    batch = collator(rows)
    return {**batch, "labels": batch["labels"].float()}
