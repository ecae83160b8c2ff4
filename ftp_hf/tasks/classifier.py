"""What classifiers of text and of images have in common."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedModel

from ftp_hf.common.figures import Metric, metric_named
from ftp_hf.common.logs import warn_once
from ftp_hf.pretrained.growing import renew_classifier
from ftp_hf.pretrained.origin import has_adapters

from .classes import class_key
from .label_space import is_listed
from .positions import config_of
from .row_checks import check_column
from .task import Options, Task, logits_alone

__all__ = [
    "ClassificationTask",
    "OtherHeadTask",
    "classifier_options",
    "compute_scores",
    "load_classifier",
    "pretrained_labels",
]

logger = logging.getLogger(__name__)

_OTHER_CLASSES = (
    "The head of %s is of other classes (%s, …) than the data (%s, …), and starts again. If they mean the same, write them as "
    "the model does, or as their indices in it."
)

_UNNAMED = re.compile(r"(LABEL_)?\d+")
_SHOWN = 10


class ClassificationTask(Task[Options]):
    """
    One of several classes for each row.

    Attributes:
        has_lists (`bool`): whether the label column holds lists of classes instead.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (metric_named("accuracy"), metric_named("balanced_accuracy"))
    has_labels = True
    has_lists: ClassVar[bool] = False

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: there is no label column; it holds lists where one class is learnt, or the other way round.
        """
        if not self.has_labels:
            return
        check_column(name, dataset, self.label_column, "label_column")
        if is_listed(dataset, self.label_column) != self.has_lists:
            expected, advice = "lists of class indices", ""
            if not self.has_lists:
                expected, advice = "one class for each row", ": lists are for tasks that are called multi-label"
            raise ValueError(
                f"the column {self.label_column!r} of {name} must hold {expected}, not {dataset.features[self.label_column]}{advice}"
            )

    def head_options(self) -> dict[str, Any]:
        """What `from_pretrained` has to know for a head of the task."""
        return classifier_options(self.labels)

    def targets(self, column: list[Any]) -> list[Any]:
        """What the loss takes, of the values of the label column."""
        return column

    def trainer_options(self, model: nn.Module) -> dict[str, Any]:
        """As of [`Task`]; the Trainer keeps no hidden states beside the logits."""
        return {**super().trainer_options(model), "preprocess_logits_for_metrics": logits_alone}

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """As [`compute_scores`]."""
        return compute_scores(prediction)

    def by_class(self, prediction: EvalPrediction) -> Mapping[str, Mapping[str, float]]:
        """The recall of each class that has rows: which share of them is right."""
        return {"recall": {self.labels[index]: recall for index, recall in _recalls(prediction).items()}}


class OtherHeadTask(ClassificationTask[Options]):
    """
    A task whose answer for a row is not a single class. A subclass sets `problem_type`, as in the model's config, and converts
    the label column into what the loss takes in [`targets`].
    """

    problem_type: ClassVar[str]

    def __init__(self, model: str, options: Options | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.collator = partial(_floating, self.collator)

    def head_options(self) -> dict[str, Any]:
        """As of [`ClassificationTask`], with the kind of the loss."""
        return {**super().head_options(), "problem_type": self.problem_type}

    def by_class(self, prediction: EvalPrediction) -> Mapping[str, Mapping[str, float]]:
        """Nothing, unless a subclass has classes."""
        del prediction
        return {}


def compute_scores(prediction: EvalPrediction) -> dict[str, float]:
    """
    Accuracy, and accuracy averaged over the classes that have rows, in [0, 1], for `Trainer(compute_metrics=compute_scores)`:
    of logits (rows, classes), and class indices (rows,).
    """
    return {
        "accuracy": float(_is_right(prediction).mean()),
        "balanced_accuracy": float(np.mean([*_recalls(prediction).values()])),
    }


def _is_right(prediction: EvalPrediction) -> Any:
    return np.argmax(prediction.predictions, axis=-1) == prediction.label_ids


def _recalls(prediction: EvalPrediction) -> dict[int, float]:
    """Of the classes that have rows, by index."""
    labels, right = prediction.label_ids, _is_right(prediction)
    return {int(index): float(right[labels == index].mean()) for index in np.unique(labels)}


def classifier_options(labels: Sequence[str]) -> dict[str, Any]:
    """What `from_pretrained` has to know for a classifier of these labels, with a new head where necessary."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "ignore_mismatched_sizes": True,
    }


def load_classifier(kind: Any, name: str, head: Mapping[str, Any], **options: Any) -> PreTrainedModel:
    """
    A pre-trained model with a head for the labels, as [`classifier_options`] has them. Its own head is kept if it is of these
    classes in this order, or either have no names; one of as many other classes starts again, and a line in the log says so.

    Raises:
        ValueError: the head cannot start again.
    """
    model: PreTrainedModel = kind.from_pretrained(name, **head, **options)
    own, labels = pretrained_labels(name), [*head["id2label"].values()]
    is_other = len(own) == len(labels) > 1 and _named(labels) and [*map(class_key, own)] != [*map(class_key, labels)]
    if is_other and not has_adapters(model) and renew_classifier(model):
        warn_once(logger, _OTHER_CLASSES, name, ", ".join(own[:_SHOWN]), ", ".join(labels[:_SHOWN]))
    return model


def pretrained_labels(model: str) -> list[str]:
    """The classes that a checkpoint names, by index; none where it has numbers alone, or `LABEL_0` and so on."""
    names = getattr(config_of(model), "id2label", None) or {}
    return _named([str(names[index]) for index in sorted(names)])


def _named(labels: list[str]) -> list[str]:
    return [] if all(_UNNAMED.fullmatch(label) for label in labels) else labels


def _floating(collator: Callable[[Any], dict[str, Tensor]], rows: Any) -> dict[str, Tensor]:
    """A batch with labels in floating point, which the losses need; a data set may hold whole numbers."""
    batch = collator(rows)
    return {**batch, "labels": batch["labels"].float()}
