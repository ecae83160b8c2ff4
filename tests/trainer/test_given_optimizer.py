"""Optimizers that the user passes and that project already: the Trainer tells them what they were not told."""

import copy
import logging

import pytest
import torch
from datasets import Dataset
from transformers import BertForSequenceClassification, GPT2LMHeadModel, Trainer

from ftp_hf import FTPAdamW, FTPTrainer, FTPTrainerMixin, projected_optimizer
from ftp_hf.baselines import L2SPTrainerMixin, LinearProbeTrainerMixin, MoFOTrainerMixin
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_bert_config, tiny_gpt2_config
from tests.support.trainers import arguments, load

HEAD = ["classifier.weight", "classifier.bias"]


def train(model, dataset, output_dir, *, optimizers=(None, None), optimizer_cls_and_kwargs=None, **options):
    trainer = FTPTrainer(
        model,
        arguments(output_dir, **{"max_steps": 3, **options}),
        train_dataset=dataset,
        optimizers=optimizers,
        optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
    )
    trainer.train()
    return trainer


def assert_same(trainer, other):
    assert projected_optimizer(trainer.optimizer).radii() == projected_optimizer(other.optimizer).radii()
    assert_equal(weights(trainer.model), weights(other.model))


@pytest.mark.slow
def test_the_new_head_is_left_to_the_plain_optimizer(pretrained, dataset, tmp_path):
    expected = train(load(pretrained), dataset, tmp_path, optim="adamw_torch")
    assert not set(HEAD) & projected_optimizer(expected.optimizer).radii().keys()

    by_class = train(load(pretrained), dataset, tmp_path, optimizer_cls_and_kwargs=(FTPAdamW, {"lr": 1e-3}))
    assert_same(by_class, expected)

    model = load(pretrained)
    given = FTPAdamW(model.named_parameters(), lr=1e-3)
    assert_same(train(model, dataset, tmp_path, optimizers=(given, None)), expected)

    model = load(pretrained)
    unnamed = FTPAdamW(model.parameters(), lr=1e-3)
    assert_same(train(model, dataset, tmp_path, optimizers=(unnamed, None)), expected)


def test_the_class_form_takes_what_needs_names(pretrained, dataset, tmp_path):
    kind = (FTPAdamW, {"lr": 1e-3, "exclude": ["bert.embeddings.*"], "anchors": str(pretrained)})
    trainer = train(load(pretrained), dataset, tmp_path, optimizer_cls_and_kwargs=kind)
    optimizer = projected_optimizer(trainer.optimizer)
    assert optimizer.external_anchors is not None
    assert not any(name in HEAD or name.startswith("bert.embeddings.") for name in optimizer.radii())
    trainer.train()
    assert kind[1].keys() == {"lr", "exclude", "anchors"}


def test_the_flags_of_what_is_filled_in_are_heeded(pretrained, dataset, tmp_path):
    model = load(pretrained)
    given = FTPAdamW(model.named_parameters(), lr=1e-3)
    flags = {"ftp_exclude_new": False, "ftp_exclude": ["*.bias"], "ftp_log_parameters": True}
    radii = projected_optimizer(train(model, dataset, tmp_path, optimizers=(given, None), **flags).optimizer).radii()
    assert "classifier.weight" in radii
    assert not any(name.endswith("bias") for name in radii)


def test_rows_of_gpt2_are_output_units(tmp_path):
    GPT2LMHeadModel(tiny_gpt2_config()).save_pretrained(tmp_path / "pretrained")
    tokens = torch.randint(0, 20, (16, 6)).tolist()
    data = Dataset.from_dict({"input_ids": tokens, "labels": tokens})

    def model():
        return GPT2LMHeadModel.from_pretrained(tmp_path / "pretrained")

    given = model()
    optimizers = (FTPAdamW(given.named_parameters(), lr=1e-3), None)
    assert_same(
        train(given, data, tmp_path, optimizers=optimizers), train(model(), data, tmp_path, optim="adamw_torch")
    )


class TakesNoModel(Trainer):
    def create_optimizer(self):  # as in transformers 4
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.0)
        return self.optimizer


class ReturnsNothing(TakesNoModel):
    def create_optimizer(self):
        super().create_optimizer()


@pytest.mark.parametrize("base", [TakesNoModel, ReturnsNothing])
@pytest.mark.parametrize(
    ("mixin", "options"),
    [
        (FTPTrainerMixin, {"probe_epochs": 0.1}),
        (L2SPTrainerMixin, {"alpha": 0.1}),
        (LinearProbeTrainerMixin, {}),
        (MoFOTrainerMixin, {}),
    ],
)
def test_a_trainer_class_may_create_its_optimizer_as_trainer_lets_it(
    mixin, options, base, pretrained, dataset, tmp_path
):
    mixed = type("Mixed", (mixin, base), {})
    trainer = mixed(load(pretrained), arguments(tmp_path, max_steps=2), train_dataset=dataset, **options)
    trainer.train()
    assert trainer.state.global_step == 2
    assert (projected_optimizer(trainer.optimizer) is not None) == (mixin is FTPTrainerMixin)


class OwnOptimizer(FTPTrainer):
    def create_optimizer(self):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        return self.optimizer


class OwnProjectedOptimizer(OwnOptimizer):
    def create_optimizer(self):
        super().create_optimizer()
        return FTPTrainer.create_optimizer(self)


def test_a_subclass_whose_own_optimizer_does_not_project_is_refused(pretrained, dataset, tmp_path):
    trainer = OwnOptimizer(load(pretrained), arguments(tmp_path), train_dataset=dataset)
    before = trainer.model.classifier.weight.detach().clone()
    with pytest.raises(
        ValueError, match=r"OwnOptimizer has an optimizer of its own, AdamW.* super\(\).create_optimizer"
    ):
        trainer.train()
    assert torch.equal(trainer.model.classifier.weight, before)
    trainer = OwnProjectedOptimizer(load(pretrained), arguments(tmp_path, max_steps=1), train_dataset=dataset)
    trainer.train()
    assert projected_optimizer(trainer.optimizer).radii()


def test_an_optimizer_of_another_model_is_refused(pretrained, dataset, tmp_path):
    optimizers = (FTPAdamW(load(pretrained).parameters(), lr=1e-3), None)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        train(load(pretrained), dataset, tmp_path, optimizers=optimizers)


def test_an_optimizer_in_the_middle_of_its_run_is_left_as_it_is(pretrained, dataset, tmp_path):
    model = load(pretrained)
    optimizer = FTPAdamW(model.named_parameters(), lr=1e-3)
    batch = dataset.with_format("torch")[:4]
    model(**batch).loss.backward()
    optimizer.step()
    trainer = train(model, dataset, tmp_path, optimizers=(optimizer, None))
    assert set(HEAD) <= projected_optimizer(trainer.optimizer).radii().keys()


@pytest.mark.parametrize("flags", [{}, {"ftp_exclude": ["classifier.*"]}, {"ftp_exclude_new": False}])
def test_a_model_that_tells_nothing_of_what_is_new_is_remarked_once(dataset, tmp_path, caplog, flags):
    model = BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1))
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        train(model, dataset, tmp_path, **flags)
    remarks = [record.message for record in caplog.records if "ftp_exclude" in record.message]
    assert len(remarks) == (0 if flags else 1), remarks


def test_a_copied_model_whose_folder_is_gone(pretrained, dataset, tmp_path):
    model = copy.deepcopy(load(pretrained))
    model.name_or_path = model.config._name_or_path = str(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"gone.*ftp_exclude_new=False"):
        train(model, dataset, tmp_path)
    train(model, dataset, tmp_path, ftp_exclude_new=False)
