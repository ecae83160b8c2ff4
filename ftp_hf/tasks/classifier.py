"""What classifiers of text and of images have in common."""

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from transformers import EvalPrediction

__all__ = ["Scores", "classifier_options", "compute_scores"]


class Scores(evaluate.Metric):  # type: ignore[misc]
    """Accuracy, and accuracy averaged over the classes, from class indices."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="Class indices.",
            features=Features({"predictions": Value("int64"), "references": Value("int64")}),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "balanced_accuracy": float(balanced_accuracy_score(references, predictions)),
        }


def compute_scores(prediction: EvalPrediction) -> dict[str, float]:
    """[`Scores`] of a model's logits, for `Trainer(compute_metrics=compute_scores)`."""
    predictions = np.argmax(prediction.predictions, axis=-1)
    scores: dict[str, float] = Scores(keep_in_memory=True).compute(
        predictions=predictions, references=prediction.label_ids
    )
    return scores


def classifier_options(labels: Sequence[str]) -> dict[str, Any]:
    """What `from_pretrained` has to know for a classifier of these labels, with a new head where need be."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "ignore_mismatched_sizes": True,
    }
