"""What classifiers of text and of images have in common."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction

from ftp_hf.common.figures import Metric, metric_named
from ftp_hf.common.privacy import is_local_path

from .specs import check_column, is_listed
from .task import Options, Task, logits_alone

__all__ = ["ClassificationTask", "OtherHeadTask", "check_model_folder", "classifier_options", "compute_scores"]

_SLASHES = 1
"""At most, in a name on the Hub."""


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
    Accuracy, and accuracy averaged over the classes that have rows, for `Trainer(compute_metrics=compute_scores)`.

    Args:
        prediction (`EvalPrediction`): logits (rows, classes), and class indices (rows,).

    Returns:
        `dict[str, float]`: `"accuracy"` and `"balanced_accuracy"`, in [0, 1].
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
    """What `from_pretrained` has to know for a classifier of these labels, with a new head where need be."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "ignore_mismatched_sizes": True,
    }


def check_model_folder(name: str) -> None:
    """
    Raise for the path of a model that is not one: the libraries would take it for a name on the Hub.

    Args:
        name (`str`): Hub name or local folder; a Hub name passes.

    Raises:
        FileNotFoundError: there is no such folder, or it holds neither a model's config nor an adapter's.
    """
    folder = Path(name)
    if folder.is_file():
        raise FileNotFoundError(f"{name} is a file, not the folder of a model")
    if folder.is_dir():
        if not any((folder / config).is_file() for config in ("config.json", "adapter_config.json", "modules.json")):
            raise FileNotFoundError(f"the folder {name} holds no model: it has no config.json")
    elif is_local_path(name) or name.count("/") > _SLASHES:
        raise FileNotFoundError(f"the folder {name} does not exist")


def _floating(collator: Callable[[Any], dict[str, Tensor]], rows: Any) -> dict[str, Tensor]:
    """A batch with labels in floating point, which the losses need; a data set may hold whole numbers."""
    batch = collator(rows)
    return {**batch, "labels": batch["labels"].float()}
