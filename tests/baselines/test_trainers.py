"""What holds for every method under a Trainer."""

import pytest
import torch
from accelerate.utils import DistributedType
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertForSequenceClassification, Trainer

from ftp_hf.baselines import L2SPTrainerMixin
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import (
    BESIDE,
    HEAD,
    NO_DROPOUT,
    SIZES,
    EWCTrainer,
    L2SPTrainer,
    LinearProbeTrainer,
    MoFOTrainer,
    SPDTrainer,
    TPGMTrainer,
    distance,
    load,
    load_whole,
    make,
    train,
    without_whole_steps,
)
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_bert_config

ANCHORED = {
    "l2-sp": (L2SPTrainer, {"alpha": 0.5, "beta": 0.1}),
    "spd": (SPDTrainer, {"lambda_": 1.0}),
    "tpgm": (TPGMTrainer, {"iterations": 2, "interval": 2}),
    "ewc": (EWCTrainer, {"lambda_": 0.5}),
}
ALONE = {**ANCHORED, "linear-probe": (LinearProbeTrainer, {}), "mofo": (MoFOTrainer, {"fraction": 0.1})}
METHODS = {**ALONE, **BESIDE}
anchored = pytest.mark.parametrize("name", ANCHORED)
alone = pytest.mark.parametrize("name", ALONE)
every = pytest.mark.parametrize("name", METHODS)


@pytest.fixture
def model_for(checkpoint):
    """A model that a method trains, by the method's name."""
    return lambda name, **options: (load_whole if name in BESIDE else load)(checkpoint, **options)


@pytest.fixture
def options(checkpoint, held_out):
    """The options of a method by its name."""
    model = load(checkpoint)
    fisher = {name: torch.ones_like(p) for name, p in model.named_parameters() if name not in HEAD}
    given = {"tpgm": {"held_out_dataset": held_out}, "ewc": {"fisher": fisher}}
    return lambda name: METHODS[name][1] | given.get(name, {})


@every
@pytest.mark.slow
def test_resuming_in_the_middle_of_an_epoch_is_bit_for_bit(model_for, dataset, tmp_path, options, name):
    trainer_class = METHODS[name][0]
    save = {"save_strategy": "steps", "save_steps": 3, "max_steps": 9}
    whole = train(trainer_class, model_for(name), dataset, tmp_path / "whole", options(name), **save)
    resumed = make(trainer_class, model_for(name), dataset, tmp_path / "resumed", options(name), **save)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert_equal(weights(resumed.model), weights(whole.model))


@anchored
def test_anchors_are_the_pretrained_weights_and_the_head_has_none(checkpoint, dataset, tmp_path, options, name):
    start = weights(load(checkpoint))
    trainer = train(ANCHORED[name][0], load(checkpoint), dataset, tmp_path, options(name), max_steps=2)
    parameters = {name for name, _ in trainer.model.named_parameters()}
    assert trainer.anchors.keys() == parameters - HEAD
    assert_equal(trainer.anchors, {name: start[name] for name in trainer.anchors})
    assert distance(trainer.model, start) > 0


@anchored
def test_parameters_can_be_named_as_new(checkpoint, dataset, tmp_path, options, name):
    make_with = lambda new: make(  # noqa: E731
        ANCHORED[name][0], load(checkpoint), dataset, tmp_path, {**options(name), "new": new}
    )
    assert not any(n.startswith("bert.pooler.") for n in make_with(["bert.pooler.*"]).anchors)
    with pytest.raises(ValueError, match=r"new: 'bert\.poler\.\*' matches no parameter"):
        make_with(["bert.poler.*"])
    with pytest.raises(TypeError, match="new must be a collection"):
        make_with("bert.pooler.*")


@pytest.fixture(scope="module")
def plain(checkpoint, dataset, tmp_path_factory):
    """What plain fine-tuning ends with."""
    return train(PlainTrainer, load(checkpoint), dataset, tmp_path_factory.mktemp("plain"), max_steps=20).model


@pytest.mark.slow
@anchored
def test_methods_keep_closer_to_the_pretrained_model(checkpoint, dataset, plain, tmp_path, options, name):
    start = weights(load(checkpoint))
    method = train(ANCHORED[name][0], load(checkpoint), dataset, tmp_path, options(name), max_steps=20)
    assert distance(method.model, start) < 0.9 * distance(plain, start)


@every
@pytest.mark.slow
def test_batch_8_is_4_accumulated_twice(model_for, dataset, tmp_path, options, name):
    results = []
    for size, accumulated in ((8, 1), (4, 2)):
        model = model_for(name, **NO_DROPOUT)
        batch = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulated,
            **without_whole_steps(name),
        }
        trainer = train(METHODS[name][0], model, dataset, tmp_path, options(name), **batch)
        results.append(weights(trainer.model))
    torch.testing.assert_close(*results, rtol=1e-4, atol=2e-6)


@alone
def test_bfloat16_autocast_trains(checkpoint, dataset, tmp_path, options, name):
    start = weights(load(checkpoint))
    trainer = train(METHODS[name][0], load(checkpoint), dataset, tmp_path, options(name), bf16=True)
    after = weights(trainer.model)
    assert all(tensor.isfinite().all() for tensor in after.values() if tensor.is_floating_point())
    assert not torch.equal(after["classifier.weight"], start["classifier.weight"])


@alone
def test_training_twice_attaches_the_method_once(checkpoint, dataset, tmp_path, options, name):
    trainer = make(METHODS[name][0], load(checkpoint), dataset, tmp_path, options(name), max_steps=1)
    hooks = []
    for _ in range(2):
        trainer.train()
        optimizer = trainer.optimizer.optimizer
        hooks.append(len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks))
    assert hooks[0] == hooks[1]


@every
@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_strategies_that_split_tensors_are_refused(model_for, dataset, tmp_path, options, monkeypatch, name, kind):
    class Split(METHODS[name][0]):
        def create_accelerator_and_postprocess(self):
            super().create_accelerator_and_postprocess()
            monkeypatch.setattr(type(self.accelerator), "distributed_type", kind)

    with pytest.raises(ValueError, match=f"{name} needs whole parameters on every process, which {kind.value} splits"):
        make(Split, model_for(name), dataset, tmp_path, options(name))


@every
def test_fsdp_that_accelerate_would_leave_out_is_refused(model_for, dataset, tmp_path, options, monkeypatch, name):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="which FSDP splits: train on one process or with DDP"):
        make(METHODS[name][0], model_for(name), dataset, tmp_path, options(name))


@pytest.mark.parametrize("name", ["l2-sp", "spd", "ewc"])
def test_weight_decay_beside_the_method_is_refused(checkpoint, dataset, tmp_path, options, name):
    trainer = make(METHODS[name][0], load(checkpoint), dataset, tmp_path, options(name), weight_decay=0.01)
    with pytest.raises(ValueError, match="takes the place of weight decay"):
        trainer.train()


@anchored
def test_optimizers_that_step_during_backward_are_refused(checkpoint, dataset, tmp_path, options, name):
    with pytest.raises(ValueError, match="during the backward pass"):
        make(ANCHORED[name][0], load(checkpoint), dataset, tmp_path, options(name), optim="lomo")


@pytest.mark.parametrize("name", ["l2-sp", "spd", "tpgm"])
def test_an_adapter_alone_has_nothing_to_be_held_to(checkpoint, dataset, tmp_path, options, name):
    model = get_peft_model(load(checkpoint), LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    with pytest.raises(ValueError, match="to their pre-trained values, and none has one"):
        make(ANCHORED[name][0], model, dataset, tmp_path, options(name))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("l2-sp", "alpha", -0.1),
        ("l2-sp", "beta", float("nan")),
        ("spd", "lambda_", -1.0),
        ("tpgm", "radius_lr", 0.0),
        ("tpgm", "iterations", 0),
        ("tpgm", "interval", -1),
        ("ewc", "lambda_", -1.0),
        ("ewc", "samples", 0),
    ],
)
def test_options_out_of_range_are_refused(checkpoint, dataset, tmp_path, options, name, option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value}"):
        make(METHODS[name][0], load(checkpoint), dataset, tmp_path, {**options(name), option: value})


def test_a_model_that_is_not_of_transformers_has_its_new_parameters_named(tmp_path):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x, labels):
            return {"loss": nn.functional.cross_entropy(self.head(self.body(x)), labels)}

    class AnyTrainer(L2SPTrainerMixin, Trainer):
        pass

    data = [{"x": torch.eye(3)[i % 3], "labels": i % 2} for i in range(8)]
    trainer = train(AnyTrainer, Classifier(), data, tmp_path, {"new": ["head.*"]}, max_steps=2)
    assert trainer.anchors.keys() == {"body.weight", "body.bias"}


@pytest.mark.slow
def test_summaries_name_the_method(checkpoint, dataset, tmp_path, options):
    for name in ("l2-sp", "mofo"):  # of an optimizer's step, and an optimizer
        trainer = train(METHODS[name][0], load(checkpoint), dataset, tmp_path / name, options(name), max_steps=1)
        assert trainer.run_summary().method == name
        trainer.create_model_card()
        assert f"by the method `{name}`" in (tmp_path / name / "README.md").read_text()


@every
@pytest.mark.slow
def test_a_model_made_anew_by_model_init_is_the_one_that_is_trained(model_for, dataset, tmp_path, options, name):
    def model_init():
        return model_for(name, **NO_DROPOUT)

    trainer = train(METHODS[name][0], None, dataset, tmp_path, {**options(name), "model_init": model_init})
    given = train(METHODS[name][0], model_init(), dataset, tmp_path, options(name))
    assert_equal(weights(trainer.model), weights(given.model))


def test_a_model_from_a_config_has_no_new_parameters(dataset, tmp_path):
    model = BertForSequenceClassification(tiny_bert_config(**SIZES))
    assert make(L2SPTrainer, model, dataset, tmp_path).anchors.keys() >= HEAD
