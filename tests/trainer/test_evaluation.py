"""What evaluations leave as it is, and what they do not leave out: rows, losses, anchors, and how a model is trained afterwards."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification, Trainer

from ftp_hf import FTPTrainer, projected_optimizer
from ftp_hf.common.labels import IGNORED_LABEL
from ftp_hf.trainer import PlainTrainer
from tests.support import launch
from tests.support.equal import weights
from tests.support.models import tiny_bert_config
from tests.support.tiny_data import make_texts
from tests.support.tiny_language import make_pairs
from tests.support.trainers import arguments

TOKENS = torch.randint(5, 50, (7, 8), generator=torch.Generator().manual_seed(0))
ROWS = [{"input_ids": row, "labels": int(row[1] > row[2])} for row in TOKENS]


def make_trainer(kind, folder, **options):
    torch.manual_seed(1)
    model = BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1))
    return kind(model, arguments(folder, **options), train_dataset=ROWS, eval_dataset=ROWS)


@pytest.mark.parametrize("kind", [PlainTrainer, FTPTrainer])
def test_the_rows_of_the_last_batch_are_measured(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, dataloader_drop_last=True, per_device_eval_batch_size=4)
    whole = make_trainer(kind, tmp_path, per_device_eval_batch_size=4)
    assert len(trainer.predict(ROWS).predictions) == len(ROWS)
    assert trainer.evaluate()["eval_loss"] == whole.evaluate()["eval_loss"]
    assert len(trainer.get_train_dataloader()) == 1, "it is dropped in training"


@pytest.mark.parametrize("kind", [PlainTrainer, FTPTrainer])
def test_a_model_that_answers_nan_to_some_rows_has_no_finite_loss(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, per_device_eval_batch_size=1)
    with torch.no_grad():
        trainer.model.bert.embeddings.word_embeddings.weight[ROWS[3]["input_ids"][0]] = torch.nan
    answers = trainer.predict(ROWS)
    lost = np.isnan(answers.predictions).any(axis=1)
    assert lost.any()
    assert not lost.all()
    assert math.isnan(answers.metrics["test_loss"])
    assert math.isnan(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize("kind", [PlainTrainer, FTPTrainer])
def test_a_batch_without_labels_that_count_leaves_the_loss_to_the_others(kind, tmp_path):
    rows = [*ROWS, {"input_ids": TOKENS[0], "labels": IGNORED_LABEL}]
    trainers = [make_trainer(each, tmp_path, per_device_eval_batch_size=1) for each in (kind, Trainer)]
    losses = [trainer.evaluate(rows)["eval_loss"] for trainer in trainers]
    np.testing.assert_equal(*losses)  # NaN in transformers that leave none out


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_an_evaluation_in_16_bits_leaves_the_anchors(dtype, tmp_path):
    trainer = make_trainer(FTPTrainer, tmp_path, max_steps=1, **{f"{dtype}_full_eval": True})
    before = weights(trainer.model)
    trainer.train()
    projected = projected_optimizer(trainer.optimizer)
    at_floor = [name for name, radius in projected.radii().items() if radius.radius < 1e-7]
    assert at_floor, "whose anchors are in the weights"
    trainer.evaluate()
    trainer.model.float()  # anchors are told in the dtype of their weights
    for name, anchor in projected.anchors().items():
        assert torch.equal(anchor, before[name]), name


@pytest.mark.slow
def test_two_processes_train_and_measure_as_one(tmp_path):
    pytest.importorskip("sentence_transformers")
    for name, make in (("texts", make_texts), ("pairs", make_pairs)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    for processes in (1, 2):
        launch.fork("measured.py", tmp_path, processes=processes)
    one, two = (json.loads((tmp_path / f"measured-{processes}.json").read_text()) for processes in (1, 2))
    assert one["texts"]["rows"] == one["pairs"]["rows"] == one["texts"]["rows of Seq2SeqTrainer"] == 7
    for name, figures in one.items():
        assert two[name] == pytest.approx(figures, rel=1e-5), name
