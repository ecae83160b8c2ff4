import copy
import logging

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import (
    BertForSequenceClassification,
    BertModel,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    ViTForImageClassification,
)

from ftp_hf import FTPAdamW, FTPTrainer, FTPTrainerMixin, projected_optimizer
from ftp_hf.pretrained.loading import load_weights
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_bert_config, tiny_gpt2_config, tiny_vit_config
from tests.support.trainers import arguments, load

HEAD = ["classifier.weight", "classifier.bias"]
TINY_VIT = tiny_vit_config(num_hidden_layers=1)


@pytest.fixture(scope="module")
def images(dataset):
    pixels = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Dataset.from_dict({"pixel_values": pixels.tolist(), "labels": dataset["labels"]}).with_format("torch")


def train(checkpoint, dataset, output_dir, *, trainer_class=FTPTrainer, **overrides):
    trainer = trainer_class(
        model=load(checkpoint), args=arguments(output_dir, **overrides), train_dataset=dataset, eval_dataset=dataset
    )
    trainer.train()
    return trainer


def assert_same_run(trainer, other):
    assert_equal(weights(trainer.model), weights(other.model))
    optimizer, reference = projected_optimizer(trainer.optimizer), projected_optimizer(other.optimizer)
    assert optimizer.radii() == reference.radii()
    assert_equal(optimizer.anchors(), reference.anchors())


def assert_anchored_at(trainer, checkpoint):
    pretrained = dict(BertModel.from_pretrained(checkpoint).named_parameters())
    anchors = projected_optimizer(trainer.optimizer).anchors()
    assert anchors
    for name, anchor in anchors.items():
        assert torch.equal(anchor, pretrained[name.removeprefix("bert.")]), name


@pytest.mark.slow
def test_three_ways_to_train_give_the_same_weights(checkpoint, dataset, tmp_path):
    ours = train(checkpoint, dataset, tmp_path, ftp_exclude_new=False, optim="adamw_torch")

    model = load(checkpoint)
    optimizer = FTPAdamW(model.named_parameters(), lr=1e-3)
    by_instance = Trainer(
        model, arguments(tmp_path, TrainingArguments), train_dataset=dataset, optimizers=(optimizer, None)
    )
    by_instance.train()

    by_class = Trainer(
        load(checkpoint),
        arguments(tmp_path, TrainingArguments),
        train_dataset=dataset,
        optimizer_cls_and_kwargs=(FTPAdamW, {"lr": 1e-3}),
    )
    by_class.train()

    assert_same_run(ours, by_instance)
    assert_equal(weights(ours.model), weights(by_class.model))


def test_new_head_is_excluded_and_logged_by_name(checkpoint, dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="ftp_hf"):
        trainer = train(checkpoint, dataset, tmp_path, max_steps=2)
    radii = projected_optimizer(trainer.optimizer).radii()
    assert radii
    assert not set(HEAD) & set(radii)
    assert ", ".join(HEAD) in caplog.text


def with_adapters(model):
    peft = pytest.importorskip("peft")
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["query"]), model)
    return model


@pytest.mark.parametrize(
    ("options", "place", "messages"),
    [
        ({}, torch.nn.Identity(), 1),
        ({"ftp_exclude": ["classifier.*"]}, torch.nn.Identity(), 0),
        ({"ftp_exclude_new": False}, torch.nn.Identity(), 0),
        ({}, with_adapters, 0),
    ],
)
def test_a_model_that_cannot_tell_what_is_new_is_said_once(dataset, tmp_path, caplog, options, place, messages):
    model = place(BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1)))
    trainer = FTPTrainer(model, arguments(tmp_path, max_steps=1, **options), train_dataset=dataset)
    trainer.train()
    assert caplog.text.count("Nothing tells which parameters of this BertForSequenceClassification are new") == messages


def test_exclusion_can_be_overridden(checkpoint, dataset, tmp_path):
    trainer = train(
        checkpoint, dataset, tmp_path, max_steps=2, ftp_exclude_new=False, ftp_exclude=["bert.embeddings.*"]
    )
    radii = projected_optimizer(trainer.optimizer).radii()
    assert set(HEAD) <= set(radii)
    assert not any(name.startswith("bert.embeddings.") for name in radii)


def test_nothing_left_to_project_is_an_error(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    model.bert.requires_grad_(requires_grad=False)
    frozen = len(list(model.bert.parameters()))
    with pytest.raises(
        ValueError, match=rf"left to project: {frozen} of {frozen + 2} are frozen \(requires_grad=False\), and all"
    ):
        FTPTrainer(model, arguments(tmp_path), train_dataset=dataset).train()


@pytest.mark.slow
def test_every_optimizer_of_the_trainer_is_projected(checkpoint, dataset, tmp_path):
    for optim in ("adamw_torch_fused", "sgd", "adafactor"):
        trainer = train(checkpoint, dataset, tmp_path, optim=optim, max_steps=4)
        for name, (radius, deviation, _) in projected_optimizer(trainer.optimizer).radii().items():
            assert deviation <= radius * (1 + 1e-4) + 1e-6, (optim, name)


def test_a_passed_optimizer_is_projected_once(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    plain = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    given_plain = FTPTrainer(model, arguments(tmp_path), train_dataset=dataset, optimizers=(plain, None))
    given_plain.train()
    assert projected_optimizer(given_plain.optimizer).radii()

    model = load(checkpoint)
    projecting = FTPAdamW(model.named_parameters(), lr=1e-3, exclude=HEAD)
    given_projecting = FTPTrainer(model, arguments(tmp_path), train_dataset=dataset, optimizers=(projecting, None))
    given_projecting.train()
    assert projected_optimizer(given_projecting.optimizer) is projecting
    assert_same_run(given_plain, given_projecting)


@pytest.mark.slow
def test_new_head_of_a_copied_model_is_excluded_too(checkpoint, dataset, tmp_path):
    trainer = FTPTrainer(copy.deepcopy(load(checkpoint)), arguments(tmp_path, max_steps=2), train_dataset=dataset)
    trainer.train()
    assert (
        projected_optimizer(trainer.optimizer).radii().keys()
        == projected_optimizer(train(checkpoint, dataset, tmp_path, max_steps=2).optimizer).radii().keys()
    )


def test_anchors_that_lack_a_tensor_of_the_body_are_refused(checkpoint, dataset, tmp_path):
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    trainer = FTPTrainer(load(checkpoint), arguments(tmp_path, ftp_anchors=str(tmp_path)), train_dataset=dataset)
    with pytest.raises(ValueError, match=r"no anchor: bert\.encoder\.layer\.1\.output\.dense\.weight\."):
        trainer.train()


def test_options_beside_an_optimizer_that_projects_are_refused(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    optimizers = (FTPAdamW(model.named_parameters(), exclude=HEAD), None)
    trainer = FTPTrainer(model, arguments(tmp_path, ftp_kappa=0.5), train_dataset=dataset, optimizers=optimizers)
    with pytest.raises(ValueError, match="options would be ignored"):
        trainer.train()


def test_anchors_from_a_folder_that_a_trainer_wrote_are_remarked(checkpoint, dataset, tmp_path, caplog):
    train(checkpoint, dataset, tmp_path, max_steps=2).save_model()
    FTPTrainer(load(tmp_path), arguments(tmp_path), train_dataset=dataset).create_optimizer()
    assert "they are fine-tuned, not pre-trained ones" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"ftp_kappa": 0.5, "gradient_accumulation_steps": 2},
        pytest.param({"ftp_kappa": 0.5, "gradient_accumulation_steps": 2, "optim": "sgd"}, marks=pytest.mark.slow),
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"optim": "adagrad"}, marks=pytest.mark.slow),
    ],
)
def test_resuming_in_the_middle_of_an_epoch_is_bit_for_bit(checkpoint, dataset, tmp_path, options):
    save = {"save_strategy": "steps", "save_steps": 6, "max_steps": 9, **options}
    whole = train(checkpoint, dataset, tmp_path / "whole", **save)
    resumed = FTPTrainer(load(checkpoint), arguments(tmp_path / "resumed", **save), train_dataset=dataset)
    # In the first epoch of 10 steps, or in the second one of 5, where gradients are accumulated.
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert_same_run(resumed, whole)
    assert_anchored_at(resumed, checkpoint)


def test_bfloat16_weights_resume_bit_for_bit(checkpoint, dataset, tmp_path):
    def trainer(output_dir):
        args = arguments(tmp_path / output_dir, save_strategy="steps", save_steps=3)
        return FTPTrainer(load(checkpoint).bfloat16(), args, train_dataset=dataset)

    whole, resumed = trainer("whole"), trainer("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert_same_run(resumed, whole)
    assert all(parameter.dtype == torch.bfloat16 for parameter in resumed.model.parameters())


@pytest.mark.slow
def test_the_best_model_is_loaded_without_losing_the_anchors(checkpoint, dataset, tmp_path):
    save = {"save_strategy": "steps", "save_steps": 8}
    train(checkpoint, dataset, tmp_path / "best", **save)
    trainer = train(checkpoint, dataset, tmp_path / "short", max_steps=1, **save)  # every radius is at its floor
    trainer.state.best_model_checkpoint = str(tmp_path / "best" / "checkpoint-8")
    trainer._load_best_model()
    assert_anchored_at(trainer, checkpoint)
    trainer.args.max_steps = 3
    trainer.train()
    assert_anchored_at(trainer, checkpoint)


@pytest.mark.slow
def test_resuming_a_model_whose_tensors_are_saved_under_other_names(images, tmp_path):
    ViTForImageClassification(TINY_VIT).save_pretrained(tmp_path / "pretrained")

    def trainer(output_dir, **options):
        model = ViTForImageClassification.from_pretrained(tmp_path / "pretrained")
        args = arguments(output_dir, save_strategy="steps", save_steps=4, **options)
        return FTPTrainer(model, args, train_dataset=images, eval_dataset=images)

    whole = trainer(tmp_path / "whole")
    whole.train()
    names = load_file(tmp_path / "whole" / "checkpoint-4" / "model.safetensors").keys()
    if names <= set(whole.model.state_dict()):
        pytest.skip("this version of transformers saves ViT under the names of its modules")

    resumed = trainer(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert_same_run(resumed, whole)

    only_model = trainer(tmp_path / "only-model", save_only_model=True)
    only_model.train()
    resumed = trainer(tmp_path / "resumed", max_steps=5)
    resumed.train(resume_from_checkpoint=str(tmp_path / "only-model" / "checkpoint-4"))
    pretrained = dict(ViTForImageClassification.from_pretrained(tmp_path / "pretrained").named_parameters())
    for name, anchor in projected_optimizer(resumed.optimizer).anchors().items():
        assert torch.equal(anchor, pretrained[name]), name


def test_loading_a_checkpoint_of_another_model_is_refused(checkpoint, tmp_path):
    BertModel.from_pretrained(checkpoint).save_pretrained(tmp_path)
    model = load(checkpoint)
    with pytest.raises(ValueError, match=r"does not hold classifier\.weight, classifier\.bias"):
        load_weights(model, tmp_path)


@pytest.mark.slow
def test_resuming_without_optimizer_state_reads_the_pretrained_checkpoint(checkpoint, dataset, tmp_path):
    save = {"save_strategy": "steps", "save_steps": 4, "save_only_model": True}
    first = train(checkpoint, dataset, tmp_path / "first", **save)
    resumed = FTPTrainer(load(checkpoint), arguments(tmp_path / "first", max_steps=5), train_dataset=dataset)
    resumed.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-4"))
    assert_anchored_at(resumed, checkpoint)
    deviations = [value.deviation for value in projected_optimizer(resumed.optimizer).radii().values()]
    assert max(deviations) > 1e-3, "the fine-tuning was thrown away"
    assert first.state.global_step == 8


@pytest.mark.parametrize("named", [True, False])
def test_resuming_with_the_fine_tuned_model_as_its_own_anchor_is_refused(checkpoint, dataset, tmp_path, named):
    save = {"save_strategy": "steps", "save_steps": 4, "save_only_model": True}
    train(checkpoint, dataset, tmp_path, **save)
    fine_tuned = tmp_path / "checkpoint-4"
    anchors = {"ftp_anchors": str(checkpoint)} if named else {}
    resumed = FTPTrainer(load(fine_tuned), arguments(tmp_path, max_steps=5, **anchors), train_dataset=dataset)
    if named:
        resumed.train(resume_from_checkpoint=str(fine_tuned))
        assert_anchored_at(resumed, checkpoint)
    else:
        before = weights(resumed.model)
        with pytest.raises(ValueError, match="Name the pre-trained model in ftp_anchors"):
            resumed.train(resume_from_checkpoint=str(fine_tuned))
        assert_equal(weights(resumed.model), before)


@pytest.mark.slow
def test_a_passed_optimizer_without_anchors_cannot_resume_without_state(checkpoint, dataset, tmp_path):
    train(checkpoint, dataset, tmp_path, save_strategy="steps", save_steps=4, save_only_model=True)
    model = load(checkpoint)
    optimizer = FTPAdamW(model.named_parameters(), lr=1e-3, exclude=HEAD)
    trainer = FTPTrainer(model, arguments(tmp_path), train_dataset=dataset, optimizers=(optimizer, None))
    with pytest.raises(ValueError, match="build it with anchors="):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


@pytest.mark.slow
def test_resuming_a_plain_run_is_refused(checkpoint, dataset, tmp_path):
    train(
        checkpoint, dataset, tmp_path, trainer_class=Trainer, cls=TrainingArguments, save_strategy="steps", save_steps=4
    )
    trainer = FTPTrainer(load(checkpoint), arguments(tmp_path), train_dataset=dataset)
    with pytest.raises(ValueError, match="saved by an optimizer without projection"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_logs_reach_tensorboard(checkpoint, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer = train(checkpoint, dataset, tmp_path, report_to="tensorboard", ftp_log_parameters=True)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    events = EventAccumulator(str(next((tmp_path / "events").rglob("events.*")).parent))
    events.Reload()
    name = "ftp_radius/bert.encoder.layer.0.output.dense.weight"
    for key in ("ftp_radius_max", "ftp_radius_median", "ftp_deviation_max", "ftp_on_boundary", name):
        written = [(event.step, event.value) for event in events.Scalars(f"train/{key}")]
        assert written == [(entry["step"], pytest.approx(entry[key])) for entry in logged]
    last = projected_optimizer(trainer.optimizer).radii()[name.removeprefix("ftp_radius/")].radius
    assert logged[-1][name] == last


def test_trainer_features_keep_working(checkpoint, dataset, tmp_path):
    trainer = FTPTrainer(
        load(checkpoint),
        arguments(
            tmp_path,
            bf16=True,
            gradient_accumulation_steps=2,
            max_grad_norm=0.1,
            lr_scheduler_type="cosine",
            warmup_steps=2,
            eval_strategy="steps",
            eval_steps=4,
            save_strategy="steps",
            save_steps=4,
            load_best_model_at_end=True,
            metric_for_best_model="eval_near_loss",
            weight_decay=0.1,
        ),
        train_dataset=dataset,
        eval_dataset={"near": dataset, "far": dataset.select(range(10))},
    )
    trainer.train()
    assert {"eval_near_loss", "eval_far_loss"} <= set().union(*trainer.state.log_history)
    assert_anchored_at(trainer, checkpoint)
    weight_decays = {group["weight_decay"] for group in projected_optimizer(trainer.optimizer).param_groups}
    assert weight_decays == {0.0, 0.1}


@pytest.mark.slow
def test_accumulating_batches_equals_one_large_batch(images, tmp_path):
    def run(batch, accumulate):
        torch.manual_seed(1)
        model = ViTForImageClassification(TINY_VIT)
        args = arguments(
            tmp_path,
            optim="sgd",
            max_steps=5,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulate,
            train_sampling_strategy="sequential",
        )
        trainer = FTPTrainer(model, args, train_dataset=images)
        trainer.train()
        return trainer.model

    for one, many in zip(run(8, 1).parameters(), run(2, 4).parameters(), strict=True):
        torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_smaller_batch_after_running_out_of_memory_keeps_the_anchors(checkpoint, dataset, tmp_path):
    class RunsOutOnce(FTPTrainer):
        ran_out = False

        def training_step(self, *args, **kwargs):
            if self.state.global_step == 3 and not self.ran_out:
                self.ran_out = True
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return super().training_step(*args, **kwargs)

    trainer = train(checkpoint, dataset, tmp_path, trainer_class=RunsOutOnce, auto_find_batch_size=True)
    assert trainer.ran_out
    assert_anchored_at(trainer, checkpoint)


@pytest.mark.slow
def test_model_init_and_hyperparameter_search(checkpoint, dataset, tmp_path):
    trainer = FTPTrainer(
        model_init=lambda: load(checkpoint),
        args=arguments(tmp_path, eval_strategy="no", max_steps=2),
        train_dataset=dataset,
        eval_dataset=dataset,
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"ftp_kappa": trial.suggest_categorical("ftp_kappa", [0.0, 1.0])},
        n_trials=2,
        backend="optuna",
    )
    assert best.hyperparameters["ftp_kappa"] in (0.0, 1.0)
    assert projected_optimizer(trainer.optimizer).param_groups[0]["kappa"] == trainer.args.ftp_kappa
    assert_anchored_at(trainer, checkpoint)


@pytest.mark.slow
def test_torch_compile(checkpoint, dataset, tmp_path):
    trainer = train(checkpoint, dataset, tmp_path, torch_compile_backend="aot_eager", max_steps=2)
    assert_anchored_at(trainer, checkpoint)


@pytest.mark.slow
def test_mixin_needs_two_lines_and_no_options(checkpoint, dataset, tmp_path):
    class OtherTrainer(Trainer):
        pass

    class FTPOtherTrainer(FTPTrainerMixin, OtherTrainer):
        pass

    other = train(checkpoint, dataset, tmp_path, trainer_class=FTPOtherTrainer, cls=TrainingArguments)
    assert_same_run(other, train(checkpoint, dataset, tmp_path))


def test_gpt2_rows_are_output_units(tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(tiny_gpt2_config())
    model.save_pretrained(tmp_path / "pretrained")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "pretrained")
    tokens = torch.randint(0, 20, (16, 6)).tolist()
    data = Dataset.from_dict({"input_ids": tokens, "labels": tokens})
    trainer = FTPTrainer(model, arguments(tmp_path, max_steps=3), train_dataset=data)
    trainer.train()
    optimizer = projected_optimizer(trainer.optimizer)
    name = "transformer.h.0.attn.c_attn.weight"
    weight, anchor = model.get_parameter(name), optimizer.anchors()[name]
    by_output_unit = (weight - anchor).abs().sum(dim=0).max()
    assert optimizer.radii()[name].deviation == pytest.approx(by_output_unit.item(), rel=1e-5)


def test_optimizers_that_step_during_backward_are_refused(checkpoint, dataset, tmp_path):
    trainer = FTPTrainer(load(checkpoint), arguments(tmp_path), train_dataset=dataset)
    trainer.args.optim = "galore_adamw_layerwise"
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters())
    with pytest.raises(ValueError, match="during the backward pass"):
        trainer.create_optimizer()
