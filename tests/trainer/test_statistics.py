"""Batch norms that keep their pre-trained statistics, and those that have none to keep."""

import logging

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
    PretrainedConfig,
    PreTrainedModel,
    ResNetForImageClassification,
)

from ftp_hf import FTPTrainer, FTPTrainingArguments
from ftp_hf.pretrained.statistics import new_statistics, pretrained_statistics
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import LinearProbeTrainer, bright_images, save_resnet, train
from tests.support.equal import changed, weights
from tests.support.trainers import arguments, load

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return save_resnet(tmp_path_factory.mktemp("resnet"))


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("mobilenet")
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.1, image_size=32)).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def images():
    return bright_images()


@pytest.fixture(scope="module")
def masks():
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 2
    return [{"pixel_values": image, "labels": (image[0] > 2).long()} for image in pixels]


def classifier(path):
    torch.manual_seed(1)
    return ResNetForImageClassification.from_pretrained(path, num_labels=2)


def is_statistic(name):
    return name.endswith(STATISTICS)


def ftp(model, dataset, output_dir, **options):
    args = arguments(output_dir, FTPTrainingArguments, **{"learning_rate": 1e-2, "max_steps": 2, **options})
    trainer = FTPTrainer(model=model, args=args, train_dataset=dataset)
    trainer.train()
    return trainer


def test_they_stay_bit_for_bit_and_everything_else_trains(resnet, images, tmp_path):
    model = classifier(resnet)
    start = weights(model)
    statistics = set(filter(is_statistic, start))
    assert len(statistics) == 3 * 6
    trainer = train(PlainTrainer, model, images, tmp_path, {"freeze_statistics": True}, max_steps=2)
    assert changed(model, start) == start.keys() - statistics
    assert trainer.run_summary().hyperparameters["freeze_statistics"] is True


def test_the_option_is_read_when_training_begins(resnet, images, tmp_path):
    trainer = FTPTrainer(classifier(resnet), arguments(tmp_path, learning_rate=1e-2, max_steps=2), train_dataset=images)
    for freeze in (True, False):
        start = weights(trainer.model)
        trainer.args.ftp_freeze_statistics = freeze
        trainer.train()
        assert any(map(is_statistic, changed(trainer.model, start))) != freeze


def test_they_stay_beside_projected_weights(resnet, images, tmp_path, caplog):
    model = classifier(resnet)
    start = weights(model)
    trainer = ftp(model, images, tmp_path, ftp_freeze_statistics=True, max_steps=4)
    moved = changed(model, start)
    assert not any(map(is_statistic, moved))
    assert any(name.endswith("normalization.weight") for name in moved)
    assert "resnet.embedder.embedder.normalization.weight" in trainer.optimizer.optimizer.projected_parameters()
    assert "Training moves the pre-trained statistics" not in caplog.text
    summary = trainer.run_summary()
    assert summary.hyperparameters["freeze_statistics"] is True
    assert "ftp_freeze_statistics" not in summary.defaults


def test_a_step_is_that_of_a_model_in_evaluation_mode(resnet, images, tmp_path):
    """On the one module whose forward pass differs between the modes."""
    model, expected = classifier(resnet), classifier(resnet)
    expected.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    batch = {name: torch.stack([torch.as_tensor(row[name]) for row in images]) for name in images[0]}
    expected.eval()(**batch).loss.backward()
    optimizer.step()
    options = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "max_steps": 1, "weight_decay": 0.0}
    one_batch = {"per_device_train_batch_size": len(images)}
    trainer = train(PlainTrainer, model, images, tmp_path, {"freeze_statistics": True}, **options, **one_batch)
    torch.testing.assert_close(weights(trainer.model), weights(expected), rtol=1e-5, atol=1e-6)


def test_without_the_option_they_move(resnet, images, tmp_path):
    start = weights(classifier(resnet))
    for trainer in (
        train(PlainTrainer, classifier(resnet), images, tmp_path),
        ftp(classifier(resnet), images, tmp_path),
    ):
        assert set(filter(is_statistic, start)) <= changed(trainer.model, start)


def test_accumulation_and_evaluations_leave_them(resnet, images, tmp_path):
    model = classifier(resnet)
    start = weights(model)
    args = arguments(
        tmp_path,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        learning_rate=1e-2,
    )
    PlainTrainer(model=model, args=args, train_dataset=images, eval_dataset=images[:4], freeze_statistics=True).train()
    assert not any(map(is_statistic, changed(model, start)))


def test_those_of_a_new_head_train(mobilenet, masks, tmp_path):
    model = MobileNetV2ForSemanticSegmentation.from_pretrained(mobilenet, num_labels=2)
    start = weights(model)
    moved = {name for name in changed(train_frozen(model, masks, tmp_path), start) if is_statistic(name)}
    assert moved == {name for name in start if is_statistic(name) and name.startswith("segmentation_head.")}
    assert moved


def train_frozen(model, masks, tmp_path):
    options = {"per_device_train_batch_size": 4, "max_steps": 1}
    return train(PlainTrainer, model, masks, tmp_path, {"freeze_statistics": True}, **options).model


def test_a_probe_trains_those_of_its_head_too(mobilenet, masks, tmp_path):
    model = MobileNetV2ForSemanticSegmentation.from_pretrained(mobilenet, num_labels=2)
    start = weights(model)
    train(LinearProbeTrainer, model, masks, tmp_path, per_device_train_batch_size=4, max_steps=1)
    assert {name.partition(".")[0] for name in changed(model, start)} == {"segmentation_head"}
    assert any(map(is_statistic, changed(model, start)))


class Net(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.head = nn.Linear(4, 2)

    def forward(self, x, labels):
        # Whose second forward pass would move the statistics twice.
        logits = self.head(checkpoint(self.norm, x, use_reentrant=False))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize(
    ("norm", "tracks"),
    [
        (nn.BatchNorm1d(4), True),
        (nn.SyncBatchNorm(4), True),
        (nn.BatchNorm1d(4, affine=False), True),
        (nn.InstanceNorm1d(4, track_running_stats=True), True),
        (nn.InstanceNorm1d(4), False),
        (nn.BatchNorm1d(4, track_running_stats=False), False),
        (nn.LayerNorm(4), False),
    ],
)
def test_they_are_found_by_class(norm, tracks):
    model = Net(norm)
    assert list(pretrained_statistics(model)) == ["norm"] * tracks
    assert new_statistics(model) == {}


def test_a_model_that_is_not_of_transformers_has_pretrained_ones(tmp_path):
    model = Net(nn.BatchNorm1d(4))
    start = weights(model)
    data = [{"x": torch.eye(4)[i % 4] + 1, "labels": i % 2} for i in range(8)]
    train(PlainTrainer, model, data, tmp_path, {"freeze_statistics": True}, max_steps=2)
    assert changed(model, start) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}


class Body(PreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.linear = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4, affine=False)
        self.post_init()


class WithHead(Body):
    def __init__(self, config):
        super().__init__(config)
        self.head_norm = nn.BatchNorm1d(4, affine=False)
        self.post_init()


def test_without_weights_the_checkpoint_tells_which_are_new(tmp_path):
    Body(PretrainedConfig()).save_pretrained(tmp_path)
    model = WithHead.from_pretrained(tmp_path)
    assert list(pretrained_statistics(model)) == ["norm"]
    assert list(new_statistics(model)) == ["head_norm"]


def test_ftp_says_once_that_they_will_drift(resnet, images, tmp_path, caplog):
    said = "Training moves the pre-trained statistics of 6 batch norms"
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        trainer = ftp(classifier(resnet), images, tmp_path, max_steps=1)
        trainer.create_optimizer()
        assert caplog.text.count(said) == 1
        assert "ftp_freeze_statistics=True" in caplog.text


def test_there_may_be_none_to_freeze(pretrained, dataset, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        train(PlainTrainer, load(pretrained), dataset, tmp_path, {"freeze_statistics": True}, max_steps=1)
    assert "no batch norm with pre-trained statistics" in caplog.text
