"""One trainer that trains more than once, or goes on after its optimizer was made: it knows its own optimizer."""

import json
import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ftp_hf import FTPTrainer, projected_optimizer
from ftp_hf.common.folder import MANIFEST, OPTIONS
from tests.support.equal import weights
from tests.support.trainers import arguments, load


def make(checkpoint, dataset, output_dir, trainer_class=FTPTrainer, **options):
    return trainer_class(load(checkpoint), arguments(output_dir, max_steps=3, **options), train_dataset=dataset)


@pytest.mark.parametrize("options", [{"ftp_kappa": 0.5}, {"ftp_log_parameters": True}, {"ftp_exclude": ["*.bias"]}])
@pytest.mark.slow
def test_a_second_training_keeps_optimizer_and_anchors(pretrained, dataset, tmp_path, options):
    trainer = make(pretrained, dataset, tmp_path, **options)
    start = weights(trainer.model)
    trainer.train()
    optimizer = projected_optimizer(trainer.optimizer)
    trainer.train()
    assert projected_optimizer(trainer.optimizer) is optimizer
    assert optimizer.radii()
    for name, anchor in optimizer.anchors().items():
        assert torch.equal(anchor, start[name]), name


def test_an_optimizer_that_was_created_before_the_training(pretrained, dataset, tmp_path):
    trainer = make(pretrained, dataset, tmp_path, ftp_kappa=0.5)
    optimizer = trainer.create_optimizer()
    trainer.train()
    assert projected_optimizer(trainer.optimizer) is optimizer


@pytest.mark.parametrize("adapter", [False, True])
def test_weights_that_an_evaluation_has_halved_are_not_trained_again(pretrained, dataset, tmp_path, adapter):
    model = load(pretrained)
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    args = arguments(tmp_path, max_steps=1, fp16_full_eval=True)
    trainer = FTPTrainer(model, args, train_dataset=dataset)
    trainer.train()
    trainer.evaluate(dataset)
    with pytest.raises(ValueError, match=r"is torch\.float16, .* fp16_full_eval=True leaves the weights so"):
        trainer.train()


def unfreeze(trainer, optimizer):
    """Train the embeddings too, as a group of their own."""
    frozen = [(name, p) for name, p in trainer.model.named_parameters() if not p.requires_grad]
    for _, parameter in frozen:
        parameter.requires_grad = True
    optimizer.add_param_group({"params": frozen, "lr": 1e-4})


def freeze_embeddings(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "embeddings" not in name


def test_groups_that_were_added_to_an_optimizer_are_trained(pretrained, dataset, tmp_path):
    trainer = make(pretrained, dataset, tmp_path)
    freeze_embeddings(trainer.model)
    unfreeze(trainer, trainer.create_optimizer())
    trainer.args.ftp_kappa = 0.5
    trainer.train()
    optimizer = projected_optimizer(trainer.optimizer)
    assert [group["kappa"] for group in optimizer.param_groups] == [0.5] * 3
    assert any("embeddings" in name for name in optimizer.radii())


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_groups_that_a_trainer_adds_are_resumed(pretrained, dataset, tmp_path, told):
    class Unfreezes(FTPTrainer):
        def create_optimizer(self, model=None):
            freeze_embeddings(self.model)
            optimizer = super().create_optimizer(model)
            unfreeze(self, optimizer)
            return optimizer

    steps = {"save_strategy": "steps", "save_steps": 2}
    make(pretrained, dataset, tmp_path / "first", Unfreezes, **steps).train()
    checkpoint = tmp_path / "first" / "checkpoint-2"
    if not told:  # as versions before this one left it
        saved = json.loads((checkpoint / OPTIONS).read_text())
        (checkpoint / OPTIONS).write_text(json.dumps({**saved, "groups": saved["groups"][:2]}))
        (checkpoint / MANIFEST).unlink()
    trainer = make(pretrained, dataset, tmp_path / "second", Unfreezes, ftp_kappa=0.5)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert [group["kappa"] for group in trainer.optimizer.param_groups] == [0.5] * 3


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])
def test_a_smaller_batch_after_running_out_of_memory(pretrained, dataset, tmp_path, step):
    class RunsOutOnce(FTPTrainer):
        ran_out = False

        def training_step(self, *args, **kwargs):
            if self.state.global_step == step and not self.ran_out:
                self.ran_out = True
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return super().training_step(*args, **kwargs)

    trainer = make(pretrained, dataset, tmp_path, RunsOutOnce, ftp_kappa=0.5, auto_find_batch_size=True)
    trainer.train()
    assert trainer.ran_out
    assert trainer.state.global_step == 3
    assert trainer.args.per_device_train_batch_size == 4
    assert trainer.run_summary().hyperparameters["per_device_train_batch_size"] == 3


def test_options_that_change_between_stages_take_effect(pretrained, dataset, tmp_path, caplog):
    trainer = make(pretrained, dataset, tmp_path, ftp_kappa=1.0)
    trainer.train()
    trainer.args.ftp_kappa, trainer.args.ftp_radius_beta1 = 0.5, 0.8
    with caplog.at_level(logging.INFO, logger="ftp_hf"):
        trainer.train()
    for group in projected_optimizer(trainer.optimizer).param_groups:
        assert (group["kappa"], group["radius_betas"]) == (0.5, (0.8, 0.999))
    assert "kappa 1.0 → 0.5" in caplog.text
    assert trainer.run_summary().projection.kappa == 0.5


@pytest.mark.parametrize(
    ("option", "value", "both"),
    [
        ("ftp_exclude", ["*.bias"], r"ftp_exclude was None, and is \['\*\.bias'\] now"),
        ("ftp_exclude_new", False, "ftp_exclude_new was True, and is False now"),
        ("ftp_anchors", "elsewhere", "ftp_anchors was None, and is 'elsewhere' now"),
        ("ftp_adapters", "none", "ftp_adapters was 'product', and is 'none' now"),
    ],
)
def test_what_is_projected_cannot_change_between_stages(pretrained, dataset, tmp_path, option, value, both):
    trainer = make(pretrained, dataset, tmp_path)
    trainer.create_optimizer()
    setattr(trainer.args, option, value)
    with pytest.raises(ValueError, match=both):
        trainer.train()


@pytest.mark.parametrize("name", ["bert.encoder.layer.0.output.dense.weight", "classifier.weight"])
def test_weights_that_were_lost_after_the_last_log_are_not_saved(pretrained, dataset, tmp_path, name):
    trainer = make(pretrained, dataset, tmp_path)
    trainer.train()
    trainer.save_model()
    saved = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        trainer.model.get_parameter(name).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=f"the weights of {name} are not finite"):
        trainer.save_model()
    assert (tmp_path / "model.safetensors").read_bytes() == saved


@pytest.mark.parametrize("earlier", ["one step", "created"])
@pytest.mark.slow
def test_resuming_without_optimizer_state_under_an_optimizer_that_is_there(pretrained, dataset, tmp_path, earlier):
    make(pretrained, dataset, tmp_path / "first", save_strategy="steps", save_steps=3, save_only_model=True).train()
    trainer = make(pretrained, dataset, tmp_path / "second", ftp_kappa=0.5)
    start = weights(trainer.model)
    if earlier == "created":
        trainer.create_optimizer()
    else:
        trainer.args.max_steps = 1  # every radius is at its floor
        trainer.train()
    trainer.args.max_steps = 5
    trainer.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-3"))
    anchors = projected_optimizer(trainer.optimizer).anchors()
    assert anchors
    for name, anchor in anchors.items():
        assert torch.equal(anchor, start[name]), name
