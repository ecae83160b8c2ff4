"""A head for each stage: the classes of a stage compete with each other alone."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from ftp_hf.compare.stream.heads import competitors, head_per_stage
from ftp_hf.tasks.classifier import ClassificationTask

COMPETING = competitors([{0, 2}, {1, 3}], 4)


@pytest.fixture
def task():
    task = head_per_stage(ClassificationTask)("model", labels=list("abcd"))
    task.competing = COMPETING
    return task


def test_classes_compete_within_their_stage():
    expected = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    assert COMPETING.astype(int).tolist() == expected
    with pytest.raises(ValueError, match="stages of different classes, but 1 are of several"):
        competitors([{0, 1}, {1, 2}], 3)


def test_answers_of_other_stages_are_out_of_the_question(task):
    logits = np.array([[0.1, 9.0, 0.2, 9.0], [9.0, 0.3, 9.0, 0.1]])
    assert task.compute_metrics(EvalPrediction(logits, np.array([2, 1])))["accuracy"] == 1.0
    assert task.compute_metrics(EvalPrediction(logits, np.array([0, 3])))["accuracy"] == 0.0
    assert task.by_class(EvalPrediction(logits, np.array([2, 1]))) == {"recall": {"b": 1.0, "c": 1.0}}


def test_the_loss_is_among_the_classes_of_the_stage(task):
    loss = task.trainer_options(None)["compute_loss_func"]
    logits = torch.randn(2, 4, requires_grad=True)
    labels = torch.tensor([2, 1])
    found = loss({"logits": logits}, labels)
    own = torch.stack([logits[0, [0, 2]], logits[1, [1, 3]]])
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(own, torch.tensor([1, 0])))
    found.backward()
    assert torch.equal(logits.grad[0, [1, 3]], torch.zeros(2))  # what is not asked is not taught
    torch.testing.assert_close(loss({"logits": logits}, labels, num_items_in_batch=4), found / 2)
