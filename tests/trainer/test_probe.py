"""Trainers that fit a new head before anything else moves."""

import pytest
import torch
from transformers import BertForSequenceClassification, EarlyStoppingCallback, TrainerCallback, TrainingArguments

from ftp_hf import FTPTrainer, FTPTrainingArguments
from ftp_hf.trainer.plain import PlainTrainer
from ftp_hf.trainer.probe import check_can_probe
from tests.support.baselines import HEAD, SIZES, L2SPTrainer, LinearProbeTrainer, load, sentences
from tests.support.equal import assert_equal, changed, weights
from tests.support.models import save_bert, tiny_bert_config
from tests.support.trainers import arguments

TRAINING = {"max_steps": 3, "learning_rate": 1e-2, "weight_decay": 0.0}


def make(kind, model, dataset, output_dir, **options):
    """The epochs and the learning rate of the probe as each Trainer is told them."""
    if kind is FTPTrainer:
        probe = {"ftp_probe_epochs": 0.5, "ftp_probe_learning_rate": 0.1}
        args = arguments(output_dir, FTPTrainingArguments, **TRAINING, **probe, **options)
        return FTPTrainer(model=model, args=args, train_dataset=dataset)
    args = arguments(output_dir, TrainingArguments, **{**TRAINING, **options})
    return kind(model=model, args=args, train_dataset=dataset, probe_epochs=0.5, probe_learning_rate=0.1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("pretrained"), **SIZES)


@pytest.fixture(scope="module")
def small():
    return sentences(16, seed=0)


@pytest.mark.parametrize(
    "kind", [PlainTrainer, *(pytest.param(it, marks=pytest.mark.slow) for it in (FTPTrainer, L2SPTrainer))]
)
@pytest.mark.slow
def test_it_is_two_trainers_one_after_the_other(checkpoint, small, tmp_path, kind):
    probed = load(checkpoint)
    probing = {**TRAINING, "max_steps": -1, "num_train_epochs": 0.5, "learning_rate": 0.1}
    args = arguments(tmp_path, TrainingArguments, **probing)
    LinearProbeTrainer(model=probed, args=args, train_dataset=small).train()
    start = load(checkpoint).state_dict()
    assert changed(probed, start) == HEAD
    kind(model=probed, args=arguments(tmp_path, **TRAINING), train_dataset=small).train()

    trainer = make(kind, load(checkpoint), small, tmp_path)
    trainer.train()
    assert_equal(weights(trainer.model), weights(probed))
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())
    assert trainer.state.global_step == 3
    summary = trainer.run_summary()
    assert (summary.hyperparameters["probe_epochs"], summary.hyperparameters["probe_learning_rate"]) == (0.5, 0.1)


def test_phases_that_are_counted_in_steps_are_those_of_the_training(checkpoint, small, tmp_path):
    rates = []

    class Recording(PlainTrainer):
        def training_step(self, *args, **kwargs):
            rates.append((self.probing, round(self.optimizer.param_groups[0]["lr"], 8)))
            return super().training_step(*args, **kwargs)

    schedule = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 3}}
    make(Recording, load(checkpoint), small, tmp_path, **schedule).train()
    assert rates == [(True, 0.1), (True, 0.05), (False, 0.01), (False, 0.0075), (False, 0.0025)]


def test_anchors_are_pretrained_and_the_head_is_not_projected(checkpoint, small, tmp_path):
    start = weights(load(checkpoint))
    trainer = make(FTPTrainer, load(checkpoint), small, tmp_path)
    trainer.train()
    anchors = trainer.optimizer.optimizer.anchors()
    assert not HEAD & anchors.keys()
    assert_equal(anchors, {name: start[name] for name in anchors})


@pytest.mark.parametrize("kind", [FTPTrainer, pytest.param(PlainTrainer, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_resumed_run_does_not_probe_again(checkpoint, small, tmp_path, kind):
    save = {"save_strategy": "steps", "save_steps": 2}
    whole = make(kind, load(checkpoint), small, tmp_path, **save)
    whole.train()
    resumed = make(kind, load(checkpoint), small, tmp_path, **save)
    resumed._probe = None  # it would be called
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_equal(weights(resumed.model), weights(whole.model))


def test_a_second_training_does_not_probe_again(checkpoint, small, tmp_path):
    trainer = make(PlainTrainer, load(checkpoint), small, tmp_path, max_steps=1)
    trainer.train()
    trainer._probe = None
    trainer.train()


@pytest.mark.slow
def test_a_model_made_anew_is_probed_and_trained(checkpoint, small, tmp_path):
    options = {"probe_epochs": 0.5, "probe_learning_rate": 0.1, "train_dataset": small}
    args = arguments(tmp_path, **TRAINING)
    model_init = lambda: load(checkpoint)  # noqa: E731
    trainer = PlainTrainer(model_init=model_init, args=args, **options)
    trainer.train()
    given = PlainTrainer(model=load(checkpoint), args=args, **options)
    given.train()
    assert_equal(weights(trainer.model), weights(given.model))
    assert trainer.model_init is model_init


def test_a_given_optimizer_and_callbacks_are_for_the_training(checkpoint, small, tmp_path):
    class Watching(TrainerCallback):
        events = 0

        def on_step_end(self, *_, **__):
            self.events += 1

    model, watching = load(checkpoint), Watching()
    given = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    args = arguments(tmp_path, **{**TRAINING, **options, "load_best_model_at_end": True})
    trainer = PlainTrainer(
        model=model,
        args=args,
        train_dataset=small,
        eval_dataset=small,
        optimizers=(given, None),
        callbacks=[watching, EarlyStoppingCallback(9)],
        probe_epochs=1,
    )
    trainer.train()
    assert trainer.optimizer.optimizer is given
    assert watching.events == 3
    assert trainer.args is args
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in (1, 2, 3)]


def test_what_is_refused(checkpoint, small, tmp_path):
    def refused(said, model=None, **options):
        with pytest.raises(ValueError, match=said):
            PlainTrainer(model=model or load(checkpoint), args=arguments(tmp_path), train_dataset=small, **options)

    refused("probe_epochs must be finite and not negative, got -1", probe_epochs=-1)
    refused("probe_learning_rate must be positive and finite, got 0", probe_epochs=1, probe_learning_rate=0)
    refused("there is no probe: set probe_epochs too", probe_learning_rate=0.1)
    load(checkpoint).save_pretrained(tmp_path / "whole")
    refused("the model has no new parameter to fit first", load(tmp_path / "whole"), probe_epochs=1)
    unknown = BertForSequenceClassification(tiny_bert_config(**SIZES))
    refused("nothing tells which parameters of the model are new.*new=", unknown, probe_epochs=1)
    endless = small.to_iterable_dataset()
    with pytest.raises(ValueError, match="training data without a length"):
        PlainTrainer(model=load(checkpoint), args=arguments(tmp_path), train_dataset=endless, probe_epochs=1)
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(load(checkpoint), peft.LoraConfig(target_modules=["query"]))
    refused("the model has adapters", adapted, probe_epochs=1)


class Watched(FTPTrainer):
    """The learning rate of every step, and whether it is the probe's."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = []

    def training_step(self, *args, **kwargs):
        self.steps.append((self.probing, self.optimizer.param_groups[0]["lr"]))
        return super().training_step(*args, **kwargs)


@pytest.mark.parametrize(
    ("tried", "beside", "steps"),
    [
        ({"ftp_probe_epochs": 0.5}, {}, [(True, 0.01), (True, 0.01), (False, 0.01)]),
        ({"ftp_probe_learning_rate": 0.2}, {"ftp_probe_epochs": 0.25}, [(True, 0.2), (False, 0.01)]),
        (
            {"learning_rate": 0.02, "num_train_epochs": 3.0},
            {"ftp_probe_epochs": 0.25, "ftp_probe_learning_rate": 0.1},
            [(True, 0.1), (False, 0.02)],
        ),
    ],
    ids=str,
)
def test_a_search_tries_a_probe_and_does_not_change_the_one_that_was_asked_for(
    checkpoint, small, tmp_path, tried, beside, steps
):
    pytest.importorskip("optuna")
    args = arguments(tmp_path, learning_rate=0.01, lr_scheduler_type="constant", max_steps=1, **beside)
    trainer = Watched(model_init=lambda: load(checkpoint), args=args, train_dataset=small, eval_dataset=small)
    trainer.hyperparameter_search(
        hp_space=lambda trial: {name: trial.suggest_categorical(name, [value]) for name, value in tried.items()},
        n_trials=1,
        backend="optuna",
    )
    assert trainer.steps == steps
    assert {name: getattr(trainer.args, name) for name in tried} == tried


def test_a_search_over_a_probe_that_there_cannot_be_is_refused(checkpoint, small, tmp_path):
    args = arguments(tmp_path, max_steps=1)
    trainer = FTPTrainer(model_init=lambda: load(checkpoint), args=args, train_dataset=small, eval_dataset=small)
    with pytest.raises(ValueError, match="there is no probe: set probe_epochs too"):
        trainer.hyperparameter_search(hp_space=lambda _: {"ftp_probe_learning_rate": 0.1}, n_trials=1, backend="optuna")


def test_a_search_may_have_taken_the_model_away(checkpoint, small, tmp_path):
    args = arguments(tmp_path, max_steps=1, ftp_probe_epochs=0.25)
    trainer = Watched(model_init=lambda: load(checkpoint), args=args, train_dataset=small)
    trainer.model = None  # as Ray's search does, which cannot send it
    trainer.train()
    assert [probing for probing, _ in trainer.steps] == [True, False]


def test_options_are_read_when_training_begins(checkpoint, small, tmp_path):
    trainer = Watched(load(checkpoint), arguments(tmp_path, max_steps=1), train_dataset=small)
    trainer.args.ftp_probe_epochs = 0.25
    trainer.train()
    assert [probing for probing, _ in trainer.steps] == [True, False]


@pytest.mark.parametrize("strategy", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_strategies_that_replace_parameters_are_refused(checkpoint, small, tmp_path, strategy):
    trainer = PlainTrainer(model=load(checkpoint), args=arguments(tmp_path), train_dataset=small)
    setattr(trainer, strategy, True)
    with pytest.raises(ValueError, match="FSDP and DeepSpeed replace the parameters"):
        check_can_probe(trainer)
