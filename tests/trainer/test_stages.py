"""Stage after stage: which anchors and radii a training takes over from the one before."""

import pytest
import torch
from datasets import concatenate_datasets
from transformers import BertForSequenceClassification

from ftp_hf import FTPAdamW, FTPTrainer, projected_optimizer
from ftp_hf.pretrained import grow_classifier
from ftp_hf.pretrained.growing import _grow
from ftp_hf.trainer.arguments import FTPArguments
from ftp_hf.trainer.stages import go_on
from tests.support.equal import assert_equal, weights
from tests.support.problems import assert_told_as_it_is, make_gradients, train
from tests.support.trainers import arguments, load

HEAD = ("classifier.weight", "classifier.bias")
CONSTANT = {"lr_scheduler_type": "constant", "train_sampling_strategy": "sequential", "max_steps": -1}
"""With which a step does not depend on how many others there are."""


@pytest.fixture(scope="module")
def stages(dataset):
    rows = dataset.to_dict()
    assert len(rows["labels"]) == 40
    return [dataset.select(range(start, start + 12)) for start in (0, 12, 24)]


def still(model):
    """Without dropout, whose random numbers depend on how many epochs there were."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def make(model, data, folder, **options):
    args = arguments(folder, num_train_epochs=1, **{**CONSTANT, **options})
    return FTPTrainer(still(model), args, train_dataset=data)


def in_one(stages, checkpoint, folder, **options):
    """One Trainer for all stages."""
    trainer = make(load(checkpoint), stages[0], folder, **options)
    for stage in stages:
        trainer.train_dataset = stage
        trainer.train()
    return trainer


def saved_stages(stages, model, folder, **options):
    """A Trainer for each stage, on the model that the one before saved."""
    for number, stage in enumerate(stages):
        here = folder / str(number)
        trainer = make(model, stage, here, save_strategy="steps", save_steps=3, **options)
        trainer.train()
        model = BertForSequenceClassification.from_pretrained(here / "checkpoint-3")
    return trainer


def anchors(trainer):
    return projected_optimizer(trainer.optimizer).anchors()


def radii(trainer):
    return projected_optimizer(trainer.optimizer).radii()


@pytest.mark.slow
def test_stages_around_the_first_model_are_one_training(pretrained, stages, tmp_path):
    whole = make(load(pretrained), concatenate_datasets(stages), tmp_path / "whole")
    whole.train()
    trainer = in_one(stages, pretrained, tmp_path / "stages", ftp_anchors="pretrained")
    assert_equal(weights(trainer.model), weights(whole.model))
    assert_equal(anchors(trainer), anchors(whole))
    assert radii(trainer) == radii(whole)


@pytest.mark.slow
def test_a_saved_stage_is_gone_on_with_as_the_same_trainer_does(pretrained, stages, tmp_path):
    same = in_one(stages, pretrained, tmp_path / "same")
    saved = saved_stages(stages, load(pretrained), tmp_path, ftp_anchors="pretrained")
    assert_equal(weights(saved.model), weights(same.model))
    assert_equal(anchors(saved), anchors(same))
    assert radii(saved) == radii(same)
    assert not set(HEAD) & set(radii(saved))


@pytest.mark.slow
def test_each_stage_around_the_model_before_it(pretrained, stages, tmp_path):
    same = in_one(stages[:2], pretrained, tmp_path / "same", ftp_anchors="previous")
    left = in_one(stages[:1], pretrained, tmp_path / "left")
    assert_equal(anchors(same), weights(left.model))  # of the head too, which the stage before has trained
    saved = saved_stages(stages[:2], load(pretrained), tmp_path, ftp_anchors="previous")
    assert_equal(weights(saved.model), weights(same.model))


@pytest.mark.slow
def test_radii_that_start_anew(pretrained, stages, tmp_path):
    trainer = in_one(stages[:1], pretrained, tmp_path)
    before, held = radii(trainer), anchors(trainer)
    trainer.args.ftp_restart_radii = True
    trainer._begin_stage()
    assert_equal(anchors(trainer), held)
    for name, radius in radii(trainer).items():
        assert radius.radius == pytest.approx(radius.deviation, abs=2e-8), name
        assert radius.deviation == before[name].deviation
    optimizer = projected_optimizer(trainer.optimizer)
    assert all(optimizer.state[p]["radius"][1:3].eq(0).all() for p in optimizer.projected_parameters().values())
    trainer.train()
    assert_equal(anchors(trainer), held)


@pytest.mark.slow
def test_an_optimizer_that_was_given_cannot_have_other_anchors(pretrained, stages, tmp_path):
    model = load(pretrained)
    given = torch.optim.AdamW(model.parameters(), lr=1e-3)
    args = arguments(tmp_path, max_steps=1, ftp_anchors="previous")
    trainer = FTPTrainer(model, args, train_dataset=stages[0], optimizers=(given, None))
    trainer.train()
    with pytest.raises(ValueError, match="this trainer was given one"):
        trainer.train()


def test_weights_without_their_anchors_are_refused(pretrained, stages, tmp_path):
    make(load(pretrained), stages[0], tmp_path, max_steps=1).save_model()
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not its anchors"):
        make(model, stages[1], tmp_path / "next", ftp_anchors="pretrained").train()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["pretrained", "previous"])
def test_the_third_stage_is_resumed_bit_for_bit(pretrained, stages, tmp_path, policy):
    options = {"ftp_anchors": policy, "save_strategy": "steps", "save_steps": 1}
    saved_stages(stages[:2], load(pretrained), tmp_path, ftp_anchors=policy)

    def third(folder):
        model = BertForSequenceClassification.from_pretrained(tmp_path / "1" / "checkpoint-3")
        return make(model, stages[2], folder, **options)

    whole, resumed = third(tmp_path / "whole"), third(tmp_path / "resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert_equal(weights(resumed.model), weights(whole.model))
    assert_equal(anchors(resumed), anchors(whole))
    assert radii(resumed) == radii(whole)


@pytest.fixture
def classifier(pretrained, tmp_path):
    """A model that had its head before the first stage."""
    load(pretrained).save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["pretrained", "previous"])
@pytest.mark.parametrize("way", ["same trainer", "saved"])
def test_a_head_that_grows_keeps_its_old_rows_projected(classifier, stages, tmp_path, policy, way):
    model = BertForSequenceClassification.from_pretrained(classifier)
    options = {"ftp_anchors": policy, "save_strategy": "steps", "save_steps": 3}
    trainer = make(model, stages[0], tmp_path / "first", **options)
    trainer.train()
    assert set(HEAD) <= set(radii(trainer))
    start = weights(BertForSequenceClassification.from_pretrained(classifier) if policy == "pretrained" else model)
    if way == "saved":
        model = BertForSequenceClassification.from_pretrained(tmp_path / "first" / "checkpoint-3")
        trainer = make(model, stages[1], tmp_path / "second", **options)
    grow_classifier(model, ["LABEL_0", "LABEL_1", "new"])
    assert model.classifier.weight.shape[0] == model.config.num_labels == 3
    trainer.train_dataset = stages[1].map(lambda row: {"labels": row["labels"] + 1})
    trainer.train()
    assert projected_optimizer(trainer.optimizer).pretrained_rows == dict.fromkeys(HEAD, 2)
    for name, anchor in anchors(trainer).items():
        assert torch.equal(anchor[:2], start[name][:2]), name
    if policy == "previous":
        trainer.train()  # the new rows have a previous value by now
        assert projected_optimizer(trainer.optimizer).pretrained_rows == {}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["resumed", "next stage", "next stage with another class"])
def test_a_run_in_bfloat16_goes_on_in_float32(classifier, stages, tmp_path, way):
    options = {"ftp_anchors": "pretrained", "save_strategy": "steps", "save_steps": 3}
    narrow = BertForSequenceClassification.from_pretrained(classifier, dtype=torch.bfloat16)
    make(narrow, stages[0], tmp_path / "first", **options).train()
    checkpoint = tmp_path / "first" / "checkpoint-3"
    if way == "resumed":
        model = BertForSequenceClassification.from_pretrained(classifier, dtype=torch.float32)
        trainer = make(model, stages[0], tmp_path / "second", **{**options, "max_steps": 6})
        trainer.train(resume_from_checkpoint=str(checkpoint))
    else:
        model = BertForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32)
        trainer = make(model, stages[1], tmp_path / "second", **options)
        if "class" in way:
            grow_classifier(model, ["LABEL_0", "LABEL_1", "new"])
        trainer.train()
    assert not any("master" in state for state in trainer.optimizer.state.values())
    assert_told_as_it_is(projected_optimizer(trainer.optimizer), dict(trainer.model.named_parameters()))


@pytest.mark.parametrize("projected", [True, False], ids=["projected", "new"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_rows_that_a_head_grows_by_are_where_its_training_begins(dtype, projected):
    model = torch.nn.ModuleDict({"head": torch.nn.Linear(4, 2, dtype=dtype)})
    parameters = dict(model.named_parameters())
    optimizer = FTPAdamW(parameters.items(), lr=1e-2, exclude=() if projected else ("head.*",))
    train(optimizer, parameters, make_gradients(parameters, 3))
    for parameter in parameters.values():
        _grow(parameter, 5, 0.1)
    before = weights(model)
    go_on(optimizer, model, FTPArguments())
    optimizer.param_groups[0]["lr"] = 0.0
    train(optimizer, parameters, make_gradients(parameters, 3))
    for name, parameter in parameters.items():
        assert torch.equal(parameter[2:], before[name][2:]), name


def test_only_classes_that_are_added_let_a_head_grow(pretrained):
    model = load(pretrained)
    with pytest.raises(ValueError, match="must begin with the present ones"):
        grow_classifier(model, ["other", "LABEL_1", "LABEL_2"])
    before = model.classifier.weight.detach().clone()
    grow_classifier(model, ["LABEL_0", "LABEL_1", "LABEL_2"])
    assert torch.equal(model.classifier.weight[:2], before)
    assert model.classifier.bias[2] == 0
    assert model(input_ids=torch.tensor([[5, 6]])).logits.shape == (1, 3)
