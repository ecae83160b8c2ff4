"""What the guard refuses before the first step."""

import re
from types import SimpleNamespace

import pytest
from transformers import BertForSequenceClassification

from ftp_hf import FTPTrainer, RobustnessGuard
from tests.support.equal import assert_equal, weights
from tests.support.guarded import SETS, guarded, make_trainer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": ["ood/blur >= 0.5"]}, "there is no set ood/blur, only id/test, ood/noise"),
        ({"rules": ["ood_mean >= 0.5"], "data": {"id/test": [1]}}, "there is no OOD set, only id/test"),
        ({"rules": ["id/test => 0.5"]}, "is not understood"),
        ({"rules": []}, "rules is empty"),
        ({"data": {}}, "data is empty"),
        (
            {"data": {"sketch": [1]}},
            "'sketch' must be 'id/NAME', 'earlier/NAME', 'ood/NAME', 'retained/NAME' or 'validation'",
        ),
        ({"data": {"ood/a:b": [1]}}, "'ood/a:b' must be"),
        ({"data": {"id/test": []}}, "'id/test' is empty"),
        ({"action": "rollback"}, "action must be one of alert, stop, roll_back, got 'rollback'"),
        ({"guard_options": {"pretrained": {"id/test": {"accuracy": 0.5}}}}, "pretrained says nothing of ood/noise"),
    ],
)
def test_what_cannot_be_guarded_is_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        guarded(FTPTrainer, tmp_path, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eval_strategy": "no"}, "eval_strategy='no' never does"),
        ({"save_strategy": "no"}, "save_strategy='no': set both to 'steps' or both to 'epoch'"),
        ({"save_strategy": "epoch"}, "save_strategy='epoch': set both"),
        ({"save_steps": 6}, "save_steps must be a multiple of eval_steps, got 6 and 4"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"metric_for_best_model": "loss"}, "metric_for_best_model"),
        ({"rules": ["id/test:acuracy >= 0.5"]}, "the model has no acuracy on id/test, only loss, accuracy"),
        ({"rules": ["id/test >= 50"]}, "accuracy is a share in [0, 1], not in percent: write 0.5"),
        (
            {"guard_options": {"pretrained": {"ood/noise": {"f1": 0.5}}}},
            "pre-trained model has no accuracy on ood/noise",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(change, message, tmp_path):
    trainer, _ = guarded(FTPTrainer, tmp_path, **change)
    before = weights(trainer.model)
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer.train()
    assert_equal(before, weights(trainer.model))
    assert not (tmp_path / "guard.jsonl").exists()


def test_one_guard_for_one_trainer(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path)
    trainer.add_callback(RobustnessGuard(trainer, SETS, ["id/test >= 0.5"]))
    with pytest.raises(ValueError, match="has 2 guards"):
        trainer.train()
    other = make_trainer(FTPTrainer, tmp_path)
    other.add_callback(guard)
    with pytest.raises(ValueError, match="made for another Trainer"):
        other.train()


def test_hyperparameter_search_is_refused(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path)
    state = SimpleNamespace(is_hyper_param_search=True)
    with pytest.raises(ValueError, match="hyper-parameter search"):
        guard.on_train_begin(trainer.args, state, trainer.control)


def test_a_new_head_has_no_pretrained_figures(pretrained, tmp_path):
    model = BertForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    trainer = make_trainer(FTPTrainer, tmp_path, model=model, max_steps=4)
    for rule in ("ood_mean >= pretrained - 0.1", "forgetting <= 0.05"):
        with pytest.raises(ValueError, match=r"classifier\.bias, classifier\.weight are new.*pretrained="):
            RobustnessGuard(trainer, SETS, [rule])
    RobustnessGuard(trainer, SETS, ["ood_mean >= 0.1"])

    known = {"ood/noise": {"accuracy": 0.7}}
    guard = RobustnessGuard(trainer, SETS, ["ood_mean >= pretrained - 0.1", "forgetting <= 0.05"], pretrained=known)
    trainer.add_callback(guard)
    trainer.train()
    value = guard.history[-1].figures["ood/noise"]["accuracy"]
    assert [result.value for result in guard.history[-1].rules] == [value, pytest.approx(0.7 - value)]
    assert guard.history[-1].rules[0].threshold == pytest.approx(0.6)
