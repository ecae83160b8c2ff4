"""Texts and images of several classes each."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import EvalPrediction

from ftp_hf.common.figures import metric_named

from .classifier import OtherHeadTask
from .image import ImageOptions, ImageTask
from .label_space import label_feature
from .row_checks import RowError, check_filled
from .task import Options
from .text import TextOptions, TextTask

__all__ = ["MultiLabelImageTask", "MultiLabelTask", "MultiLabelTextTask"]


class MultiLabelTask(OtherHeadTask[Options]):
    """
    Any number of classes for each row, a probability each: the label column holds lists of class indices, or of the names of classes, empty
    ones too.

    A class is answered where its probability is above one half. `f1_micro` is of all answers together, `f1_macro` the mean
    over the classes that occur in a data set, in its labels or in the answers, and `exact_match` the share of the rows of
    which all classes are right.
    """

    problem_type = "multi_label_classification"
    has_lists = True
    metrics = tuple(map(metric_named, ("f1_micro", "f1_macro", "exact_match")))

    def targets(self, column: list[Any]) -> list[Any]:
        """1 for each class of a row, and 0 for the others."""
        return [[float(index in row) for index in range(len(self.labels))] for row in column]

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the label column holds no lists, a row has none, or lists of numbers have a value for each class.
        """
        super().check(name, dataset)
        check_filled(name, dataset, self.label_column)
        if not isinstance(
            label_feature(dataset, self.label_column), ClassLabel
        ):  # whose names tell what the numbers are
            _check_no_vectors(name, dataset[self.label_column][:], self.label_column)

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """`"f1_micro"`, `"f1_macro"` and `"exact_match"`, in [0, 1], of logits and labels of 0 and 1, (rows, classes)."""
        labels, answers = _answered(prediction)
        right, counted = _counts(labels, answers)
        occurring = counted > 0
        return {
            "f1_micro": float(2 * right.sum() / max(1, counted.sum())),
            "f1_macro": float((2 * right[occurring] / counted[occurring]).mean()) if occurring.any() else 0.0,
            "exact_match": float((labels == answers).all(axis=1).mean()),
        }

    def by_class(self, prediction: EvalPrediction) -> Mapping[str, Mapping[str, float]]:
        """The F1 of each class that occurs, whose mean is `f1_macro`."""
        right, counted = _counts(*_answered(prediction))
        return {
            "f1": {self.labels[index]: float(2 * right[index] / counted[index]) for index in np.flatnonzero(counted)}
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`]: of each class whether it is answered, (rows, classes, 2)."""
        logits, _ = super().logits(model, batch)
        return torch.stack([torch.zeros_like(logits), logits], dim=-1), torch.ones_like(logits, dtype=torch.bool)


class MultiLabelTextTask(MultiLabelTask[TextOptions], TextTask):
    """Any number of classes for each text; metrics and label column as of [`MultiLabelTask`]."""


class MultiLabelImageTask(MultiLabelTask[ImageOptions], ImageTask):
    """Any number of classes for each image; metrics and label column as of [`MultiLabelTask`]."""


def _check_no_vectors(name: str, rows: Sequence[Sequence[int]], column: str) -> None:
    """Raise for a 0 or 1 for each class, which would be read as the classes 0 and 1."""
    looks = "which looks like one value per class: write the indices of the classes that apply, such as [0, 2] for [1, 0, 1]"
    lengths = {len(row) for row in rows}
    if len(lengths) == 1 and lengths != {1} and {*chain(*rows)} <= {0, 1} and len({*map(tuple, rows)}) > 1:
        raise ValueError(f"all rows of {name} have {min(lengths)} values in {column!r}, each 0 or 1, {looks}")
    for row, classes in enumerate(rows):
        if len({*classes}) < len(classes):
            raise RowError(row, f"{name} has {classes} in {column!r}, a class more than once, {looks}")


def _answered(prediction: EvalPrediction) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return np.asarray(prediction.label_ids) > 0, np.asarray(prediction.predictions) > 0


def _counts(labels: NDArray[np.bool_], answers: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each class, the answers that are right, and those that are given or right."""
    return (labels & answers).sum(axis=0), labels.sum(axis=0) + answers.sum(axis=0)
