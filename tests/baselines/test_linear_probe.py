"""What is frozen while a head is probed, and what LP-FT goes on from."""

import pytest
import torch
from torch import nn
from torch.optim import SGD
from transformers import BertForSequenceClassification, ResNetForImageClassification

from ftp_hf.baselines import only_trained
from ftp_hf.pretrained.loading import load_weights
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import HEAD, SIZES, LinearProbeTrainer, bright_images, load, make, save_resnet, train
from tests.support.equal import assert_equal, changed, weights
from tests.support.models import tiny_bert_config


def test_one_step_of_logistic_regression(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    start = weights(model)
    head = nn.Linear(*reversed(start["classifier.weight"].shape))
    head.load_state_dict({"weight": start["classifier.weight"], "bias": start["classifier.bias"]})
    with torch.no_grad():
        features = model.eval().bert(torch.tensor(dataset["input_ids"])).pooler_output
    logits, labels = head(features), torch.tensor(dataset["labels"])
    # The derivative of the mean cross entropy: (softmax − one-hot) ⊗ features, averaged over the rows
    errors = (logits.softmax(dim=1) - nn.functional.one_hot(labels, 2)) / len(labels)
    expected = start["classifier.weight"] - 0.5 * errors.T @ features

    overrides = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.5, "per_device_train_batch_size": len(dataset)}
    trainer = train(LinearProbeTrainer, model, dataset, tmp_path, max_grad_norm=0.0, **overrides)
    torch.testing.assert_close(trainer.model.classifier.weight, expected, rtol=1e-5, atol=1e-6)
    assert changed(trainer.model, start) == HEAD


def test_the_optimizer_is_given_the_head_alone(checkpoint, dataset, tmp_path):
    trainer = train(LinearProbeTrainer, load(checkpoint), dataset, tmp_path)
    given = {parameter for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert given == set(trainer.model.classifier.parameters())


@pytest.mark.slow
def test_batch_norm_keeps_its_statistics(tmp_path):
    model = ResNetForImageClassification.from_pretrained(save_resnet(tmp_path / "resnet"), num_labels=2)
    start = weights(model)
    assert any(name.endswith("running_mean") for name in start)
    probed = train(LinearProbeTrainer, model, bright_images(), tmp_path).model
    assert changed(probed, start) == {"classifier.1.weight", "classifier.1.bias"}
    plain = train(PlainTrainer, model, bright_images(), tmp_path).model
    assert any(name.endswith("running_mean") for name in changed(plain, start))


def test_fine_tuning_starts_from_the_probed_head(checkpoint, dataset, tmp_path):
    class Watched(PlainTrainer):
        def training_step(self, model, *args, **kwargs):
            if self.state.global_step == 0:
                self.first = weights(model)
            return super().training_step(model, *args, **kwargs)

    model = load(checkpoint)
    start = weights(model)
    train(LinearProbeTrainer, model, dataset, tmp_path / "probe")
    probed = weights(model)
    tuning = train(Watched, model, dataset, tmp_path / "tuned")
    assert_equal(tuning.first, probed)
    assert changed(model, start) == start.keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_a_later_process_fine_tunes_the_same(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    probing = train(LinearProbeTrainer, model, dataset, tmp_path / "probe")
    probing.save_model()
    together = weights(train(PlainTrainer, model, dataset, tmp_path / "together").model)
    later = load(checkpoint)
    load_weights(later, tmp_path / "probe")
    assert_equal(weights(train(PlainTrainer, later, dataset, tmp_path / "later").model), together)


def test_what_was_frozen_before_stays_frozen(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    model.bert.embeddings.requires_grad_(False)
    train(LinearProbeTrainer, model, dataset, tmp_path, max_steps=1)
    assert not any(parameter.requires_grad for parameter in model.bert.embeddings.parameters())
    assert all(parameter.requires_grad for parameter in model.bert.encoder.parameters())


def test_what_was_frozen_is_trained_again_after_a_failure(checkpoint, dataset, tmp_path):
    class Failing(LinearProbeTrainer):
        def training_step(self, *_, **__):
            raise RuntimeError("out of memory")

    model = load(checkpoint)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(Failing, model, dataset, tmp_path)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_old_head_can_be_named(checkpoint, dataset, tmp_path):
    load(checkpoint).save_pretrained(tmp_path / "classifier")
    model = load(tmp_path / "classifier")
    start = weights(model)
    with pytest.raises(ValueError, match="no parameter is left to train: the checkpoint"):
        make(LinearProbeTrainer, model, dataset, tmp_path)
    with pytest.raises(ValueError, match=r"no parameter is left to train: nothing tells which are new.*new="):
        make(LinearProbeTrainer, BertForSequenceClassification(tiny_bert_config(**SIZES)), dataset, tmp_path)
    train(LinearProbeTrainer, model, dataset, tmp_path, {"new": ["classifier.*"]})
    assert changed(model, start) == HEAD


def test_in_any_training_loop(normalized):
    start = weights(normalized)
    with only_trained(normalized, ["2.weight"]):
        optimizer = SGD([p for p in normalized.parameters() if p.requires_grad], lr=0.1)
        normalized.eval()(torch.ones(4, 3, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    assert changed(normalized, start) == {"2.weight"}
    assert all(parameter.requires_grad for parameter in normalized.parameters())
