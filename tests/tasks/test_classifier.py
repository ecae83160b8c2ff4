"""What classifiers of all kinds have in common."""

import warnings

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from transformers import EvalPrediction

from ftp_hf.tasks.classifier import ClassificationTask, compute_scores
from ftp_hf.tasks.regression import RegressionTask


def test_recall_is_of_the_classes_that_have_rows():
    task = ClassificationTask("model", labels=["cat", "dog", "cow"])
    answers = np.array([[2.0, 1, 0], [0, 2, 1], [0, 0, 1], [0, 1, 0]])
    found = task.by_class(EvalPrediction(answers, np.array([0, 0, 1, 1])))
    assert found == {"recall": {"cat": 0.5, "dog": 0.5}}


def test_scores_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 3, 4], size=997, p=[0.5, 0.3, 0.15, 0.05])
    answers = generator.normal(size=(997, 5)) + 2 * np.eye(5)[labels]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        expected = balanced_accuracy_score(labels, answers.argmax(axis=1))
    assert compute_scores(EvalPrediction(answers, labels)) == {
        "accuracy": accuracy_score(labels, answers.argmax(axis=1)),
        "balanced_accuracy": expected,
    }


def test_other_heads_have_no_classes_unless_they_say_so():
    assert RegressionTask.by_class(None, None) == {}
