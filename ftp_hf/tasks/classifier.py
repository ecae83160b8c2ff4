"""What classifiers of text and of images have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from transformers import EvalPrediction

__all__ = ["classifier_options", "compute_scores"]


def compute_scores(prediction: EvalPrediction) -> dict[str, float]:
    """
    Accuracy, and accuracy averaged over the classes, for `Trainer(compute_metrics=compute_scores)`.

    Args:
        prediction (`EvalPrediction`): logits (rows, classes), and class indices (rows,).

    Returns:
        `dict[str, float]`: `"accuracy"` and `"balanced_accuracy"`, in [0, 1].
    """
    labels, predictions = prediction.label_ids, np.argmax(prediction.predictions, axis=-1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predictions)),
    }


def classifier_options(labels: Sequence[str]) -> dict[str, Any]:
    """What `from_pretrained` has to know for a classifier of these labels, with a new head where need be."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "ignore_mismatched_sizes": True,
    }
