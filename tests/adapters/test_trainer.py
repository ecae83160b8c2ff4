"""`FTPTrainer` and adapters of PEFT: found by themselves, saved, resumed and merged; and TRL's `SFTTrainer`."""

import copy
import logging

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from ftp_hf import FTPAdamW, FTPTrainer, RunSummary, adapter_options, projected_optimizer
from tests.support.adapters import merged
from tests.support.equal import assert_equal, weights
from tests.support.trainers import arguments, load

peft = pytest.importorskip("peft")

CONFIG = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
LORA = {f"bert.encoder.layer.{layer}.attention.self.{kind}.weight" for layer in (0, 1) for kind in ("query", "value")}


def trainer_of(checkpoint, dataset, output_dir, *, config=CONFIG, trainer_class=FTPTrainer, **overrides):
    torch.manual_seed(2)
    model = peft.get_peft_model(load(checkpoint), copy.deepcopy(config))
    return trainer_class(model=model, args=arguments(output_dir, **overrides), train_dataset=dataset)


def assert_rows_in_their_balls(trainer, start):
    after, radii = merged(trainer.model), projected_optimizer(trainer.optimizer).radii()
    for name in LORA:
        norms = (after[name].double() - start[name].double()).abs().sum(dim=1)
        # The merged weights are rounded to float32.
        assert norms.max() <= radii[name].radius * (1 + 1e-5) + 1e-6


def test_adapters_are_seen_and_the_new_head_is_left_alone(checkpoint, dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ftp_hf"):
        trainer = trainer_of(checkpoint, dataset, tmp_path)
        trainer.train()
    assert "base_model.model.classifier.modules_to_save.default.weight" in caplog.text
    radii = projected_optimizer(trainer.optimizer).radii()
    assert radii.keys() == LORA
    assert max(radius.radius for radius in radii.values()) > 1e-3
    assert_rows_in_their_balls(trainer, dict(load(checkpoint).named_parameters()))
    assert trainer.state.log_history[0]["ftp_radius_max"] > 0


def test_a_loaded_adapter_is_anchored_at_the_pretrained_model(checkpoint, dataset, tmp_path):
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["pooler"], bias="lora_only")
    first = trainer_of(checkpoint, dataset, tmp_path / "first", config=config, learning_rate=1e-2)
    first.train()
    first.model.save_pretrained(tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(load(checkpoint), tmp_path / "adapter", is_trainable=True)
    args = arguments(tmp_path / "second", max_steps=1, learning_rate=0.0, ftp_anchors=str(checkpoint))
    second = FTPTrainer(model=model, args=args, train_dataset=dataset)
    second.train()
    before, after = (projected_optimizer(t.optimizer).radii() for t in (first, second))
    assert before.keys() == after.keys() > LORA
    for name, radius in after.items():
        # The distance of the weights that training started from, from those of the checkpoint on disk.
        assert radius.deviation == pytest.approx(before[name].deviation, rel=1e-4, abs=1e-7)
    assert max(after[name].deviation for name in LORA) > 1e-3


def injected_trainer_of(checkpoint, dataset, output_dir, modules_to_save=None, targets=("query", "value"), **overrides):
    """With the adapter in the model of transformers, which PEFT does not wrap."""
    model = load(checkpoint)
    torch.manual_seed(2)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=[*targets], modules_to_save=modules_to_save))
    args = arguments(output_dir, learning_rate=1e-2, save_strategy="steps", **overrides)
    return FTPTrainer(model=model, args=args, train_dataset=dataset, eval_dataset=dataset)


@pytest.mark.parametrize("modules_to_save", [None, ["classifier"]], ids=str)
def test_an_adapter_within_the_model_is_resumed_bit_for_bit(checkpoint, dataset, tmp_path, modules_to_save):
    whole = injected_trainer_of(checkpoint, dataset, tmp_path, modules_to_save, save_steps=2, max_steps=4)
    whole.train()
    resumed = injected_trainer_of(checkpoint, dataset, tmp_path, modules_to_save, save_steps=2, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_equal(weights(resumed.model), weights(whole.model))
    assert projected_optimizer(resumed.optimizer).radii() == projected_optimizer(whole.optimizer).radii()


@pytest.mark.parametrize("modules_to_save", [None, ["classifier"]], ids=str)
def test_the_best_adapter_within_the_model_is_loaded_at_the_end(checkpoint, dataset, tmp_path, modules_to_save):
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 3, "greater_is_better": True}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", **options}
    trainer = injected_trainer_of(checkpoint, dataset, tmp_path, modules_to_save, **best)
    trainer.train()
    assert trainer.state.best_global_step < trainer.state.global_step
    assert trainer.evaluate()["eval_loss"] == trainer.state.best_metric


def test_an_adapter_of_other_modules_is_not_loaded(checkpoint, dataset, tmp_path):
    injected_trainer_of(checkpoint, dataset, tmp_path, save_steps=2, max_steps=2).train()
    other = injected_trainer_of(checkpoint, dataset, tmp_path, targets=["query"], save_steps=2, max_steps=4)
    with pytest.raises(ValueError, match=r"holds of its adapter what this model does not have: .*value\.lora_A"):
        other.train(resume_from_checkpoint=True)


@pytest.mark.slow
def test_resumed_is_uninterrupted_bit_for_bit(checkpoint, dataset, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "logging_steps": 1, "learning_rate": 1e-2}
    whole = trainer_of(checkpoint, dataset, tmp_path / "run", **options)
    whole.train()
    resumed = trainer_of(checkpoint, dataset, tmp_path / "again", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert_equal(weights(resumed.model), weights(whole.model))
    assert projected_optimizer(resumed.optimizer).radii() == projected_optimizer(whole.optimizer).radii()
    saved = load_file(tmp_path / "run" / "checkpoint-8" / "adapter_model.safetensors")
    mine = weights(whole.model)
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_B"
    assert torch.equal(saved[f"{name}.weight"], mine[f"{name}.default.weight"])


@pytest.mark.slow
def test_without_optimizer_state_the_anchor_is_still_the_pretrained_model(checkpoint, dataset, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "save_only_model": True, "learning_rate": 1e-2}
    trainer_of(checkpoint, dataset, tmp_path / "run", **options).train()
    resumed = trainer_of(checkpoint, dataset, tmp_path / "again", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert_rows_in_their_balls(resumed, dict(load(checkpoint).named_parameters()))


def test_a_whole_model_saved_over_an_adapter_is_loaded_without_it(checkpoint, dataset, tmp_path):
    adapted = trainer_of(checkpoint, dataset, tmp_path, learning_rate=1e-2)
    adapted.train()
    adapted.save_model()
    whole = FTPTrainer(model=load(checkpoint), args=arguments(tmp_path), train_dataset=dataset)
    whole.train()
    whole.save_model()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert_equal(weights(loaded), weights(whole.model))
    assert not [path.name for path in tmp_path.glob("adapter_*")]


@pytest.mark.parametrize(("adapters", "keys"), [("none", set()), ("factors", None)])
def test_ftp_adapters(checkpoint, dataset, tmp_path, adapters, keys):
    trainer = trainer_of(checkpoint, dataset, tmp_path, ftp_adapters=adapters, ftp_exclude_new=False)
    trainer.train()
    radii = projected_optimizer(trainer.optimizer).radii().keys()
    assert {name for name in radii if "lora_" in name} == (
        {name for name in weights(trainer.model) if "lora_" in name} if keys is None else keys
    )
    assert any("classifier" in name for name in radii)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (CONFIG, {"ftp_adapters": "none"}),
        (CONFIG, {"ftp_exclude": ["*lora_B*"]}),
        (peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", use_dora=True), {}),
    ],
    ids=["none", "excluded", "dora"],
)
def test_nothing_left_to_project_is_refused(checkpoint, dataset, tmp_path, config, options):
    trainer = trainer_of(checkpoint, dataset, tmp_path, config=config, **options)
    with pytest.raises(ValueError, match=r"no parameter is left to project.* ftp_adapters='factors'"):
        trainer.train()


def test_the_card_counts_an_update_as_projected_and_not_its_factors_as_left_out(checkpoint, dataset, tmp_path):
    trainer = trainer_of(checkpoint, dataset, tmp_path)
    trainer.train()
    trainer.create_model_card()
    projection = RunSummary.load(tmp_path).projection
    assert set(projection.projected) == projection.radii.keys() == LORA
    assert all("classifier" in name for name in projection.excluded)
    assert len(projection.excluded) == 2


@pytest.mark.slow
def test_a_plain_trainer_takes_the_same_steps(checkpoint, dataset, tmp_path):
    ours = trainer_of(checkpoint, dataset, tmp_path / "ours", lr_scheduler_type="constant")
    ours.train()
    torch.manual_seed(2)
    model = peft.get_peft_model(load(checkpoint), copy.deepcopy(CONFIG))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    optimizer = FTPAdamW(named, lr=1e-3, fused=True, **adapter_options(model))
    args = arguments(tmp_path / "plain", TrainingArguments, lr_scheduler_type="constant")
    plain = Trainer(model, args, train_dataset=dataset, optimizers=(optimizer, None))
    plain.train()
    assert_equal(weights(plain.model), weights(ours.model))
    assert optimizer.radii() == projected_optimizer(ours.optimizer).radii()
