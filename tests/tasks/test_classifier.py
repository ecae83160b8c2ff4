"""What classifiers of all kinds have in common."""

import numpy as np
from transformers import EvalPrediction

from ftp_hf.tasks.classifier import ClassificationTask
from ftp_hf.tasks.regression import RegressionTask


def test_recall_is_of_the_classes_that_have_rows():
    task = ClassificationTask("model", labels=["cat", "dog", "cow"])
    answers = np.array([[2.0, 1, 0], [0, 2, 1], [0, 0, 1], [0, 1, 0]])
    found = task.by_class(EvalPrediction(answers, np.array([0, 0, 1, 1])))
    assert found == {"recall": {"cat": 0.5, "dog": 0.5}}


def test_other_heads_have_no_classes_unless_they_say_so():
    assert RegressionTask.by_class(None, None) == {}
