"""The Trainers of sentence-transformers with the projection: the two lines of the README."""

import json
import shutil
from dataclasses import dataclass

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard

from ftp_hf import FTPArguments, FTPTrainerMixin, projected_optimizer
from tests.support.equal import assert_equal, weights
from tests.support.models import save_bert
from tests.support.trainers import arguments

sentence_transformers = pytest.importorskip("sentence_transformers")
cross_encoder = pytest.importorskip("sentence_transformers.cross_encoder")
losses = pytest.importorskip("sentence_transformers.losses")
models = pytest.importorskip("sentence_transformers.models")

pytestmark = pytest.mark.slow

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(20))]


class FTPSentenceTransformerTrainer(FTPTrainerMixin, sentence_transformers.SentenceTransformerTrainer):
    pass


@dataclass
class FTPSentenceTransformerArguments(FTPArguments, sentence_transformers.SentenceTransformerTrainingArguments):
    pass


class FTPCrossEncoderTrainer(FTPTrainerMixin, cross_encoder.CrossEncoderTrainer):
    pass


@dataclass
class FTPCrossEncoderArguments(FTPArguments, cross_encoder.CrossEncoderTrainingArguments):
    pass


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(save_bert(tmp_path_factory.mktemp("bert"), words=WORDS))


def sentence_transformer(bert):
    """With a pre-trained module that is not of transformers."""
    torch.manual_seed(0)
    body = models.Transformer(bert)
    return sentence_transformers.SentenceTransformer(
        modules=[body, models.Pooling(16), models.Dense(16, 8)], device="cpu"
    )


@pytest.fixture(scope="module")
def encoder(bert, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("encoder"))
    sentence_transformer(bert).save_pretrained(folder)
    return folder


def pairs(**labels):
    text = [" ".join(f"w{(start + step) % 20}" for step in range(6)) for start in range(40)]
    return Dataset.from_dict({"sentence1": text, "sentence2": text[1:] + text[:1], **labels})


def options(output_dir, cls, **more):
    steps = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 6}
    return arguments(output_dir, cls, **{"learning_rate": 1e-2, "ftp_kappa": 0.5, **steps, **more})


def embedder(folder, output_dir, loss=losses.MultipleNegativesRankingLoss, **more):
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    args = options(output_dir, FTPSentenceTransformerArguments, **more)
    return FTPSentenceTransformerTrainer(model, args, train_dataset=pairs(), eval_dataset=pairs(), loss=loss(model))


def ranker(folder, output_dir, **more):
    torch.manual_seed(1)
    model = cross_encoder.CrossEncoder(folder, num_labels=1, device="cpu")
    data = pairs(label=[float(number % 2) for number in range(40)])
    loss = cross_encoder.losses.BinaryCrossEntropyLoss(model)
    args = options(output_dir, FTPCrossEncoderArguments, **more)
    return FTPCrossEncoderTrainer(model, args, train_dataset=data, eval_dataset=data, loss=loss)


@pytest.fixture(params=[embedder, ranker], ids=["SentenceTransformer", "CrossEncoder"])
def make(request, bert, encoder):
    folder = encoder if request.param is embedder else bert
    return lambda output_dir, **more: request.param(folder, output_dir, **more)


def test_a_resumed_run_ends_where_the_whole_one_does(make, tmp_path):
    whole = make(tmp_path)
    whole.train()
    radii = projected_optimizer(whole.optimizer).radii()
    assert any("encoder.layer.0" in name for name in radii)
    resumed = make(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert_equal(weights(resumed.model), weights(whole.model))
    assert projected_optimizer(resumed.optimizer).radii() == radii


def test_the_best_model_is_loaded_at_the_end(make, tmp_path):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    trainer = make(tmp_path, **best)
    trainer.train()
    assert trainer.state.best_global_step < trainer.state.global_step
    best = type(trainer.model)(trainer.state.best_model_checkpoint, device="cpu")
    assert_equal(weights(trainer.model), weights(best))


def test_the_parameters_of_a_loss_are_trained_without_projection(encoder, tmp_path, caplog):
    def softmax(model):
        return losses.SoftmaxLoss(model, sentence_embedding_dimension=8, num_labels=2)

    trainer = embedder(encoder, tmp_path, softmax)
    labels = [number % 2 for number in range(40)]
    trainer.train_dataset = trainer.eval_dataset = pairs(label=labels)
    before = trainer.loss.classifier.weight.detach().clone()
    with caplog.at_level("INFO", logger="ftp_hf"):
        trainer.train()
    assert "loss.classifier.weight, loss.classifier.bias" in caplog.text
    assert not torch.equal(trainer.loss.classifier.weight, before)
    assert not any(name.startswith("loss.") for name in projected_optimizer(trainer.optimizer).radii())


@pytest.mark.parametrize("layout", ["root", "0_Transformer", "of transformers"])
def test_anchors_are_read_from_the_folders_of_the_modules(layout, bert, encoder, tmp_path):
    source = bert if layout == "of transformers" else encoder
    if layout == "0_Transformer":
        source = older_layout(encoder, tmp_path / "older")
    trainer = embedder(encoder, tmp_path, ftp_anchors=str(source))
    pretrained = weights(trainer.model)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1)
    trainer.train()
    anchors = projected_optimizer(trainer.optimizer).anchors()
    in_body = {name for name in pretrained if name.startswith("0.") and ".pooler." not in name}
    assert in_body <= anchors.keys()
    assert ("2.linear.weight" in anchors) == (layout != "of transformers")
    for name, anchor in anchors.items():
        assert torch.equal(anchor, pretrained[name]), name


def older_layout(folder, target):
    """Where the model of transformers has a folder of its own."""
    shutil.copytree(folder, target)
    body = target / "0_Transformer"
    body.mkdir()
    for file in ("model.safetensors", "config.json"):
        (target / file).rename(body / file)
    modules = json.loads((target / "modules.json").read_text())
    modules[0]["path"] = body.name
    (target / "modules.json").write_text(json.dumps(modules))
    return target


def test_the_card_names_the_library(make, tmp_path):
    trainer = make(tmp_path, max_steps=2)
    trainer.train()
    trainer.create_model_card()
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.library_name == "sentence-transformers"
    assert data.pipeline_tag in ("sentence-similarity", "text-ranking")
