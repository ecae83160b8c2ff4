"""A guard stops runs that get worse, and rolls them back."""

import functools
import json
import logging
import math
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, Trainer, TrainerCallback

from ftp_hf import FTPAdamW, FTPTrainer, RobustnessGuard, projected_optimizer
from ftp_hf.cards.guard import guard_note
from ftp_hf.checkpoints.whole import list_checkpoints
from ftp_hf.common.records import plain
from ftp_hf.runs.rules import check_rules
from tests.support import launch
from tests.support.equal import assert_equal, weights
from tests.support.guarded import CONFIG, HALF, SETS, falling, guarded, make_trainer, written

BOTH = pytest.mark.parametrize("kind", [FTPTrainer, Trainer])


class Remember(TrainerCallback):
    """The weights of each evaluation."""

    def __init__(self):
        self.weights = {}

    def on_evaluate(self, args, state, control, model=None, **_):  # noqa: ARG002
        self.weights[state.global_step] = weights(model)


class KilledError(Exception):
    pass


class KillAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **_):  # noqa: ARG002
        if state.global_step == self.step:
            raise KilledError


@BOTH
@pytest.mark.slow
def test_a_run_that_degrades_is_stopped_and_rolled_back_bit_for_bit(kind, tmp_path, caplog):
    seen = Remember()
    broken = []
    trainer, guard = guarded(kind, tmp_path, callbacks=[seen], guard_options={"on_broken": broken.append})
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        trainer.train()

    *met, last = guard.history
    assert [check.step for check in guard.history] == list(range(0, last.step + 1, 4))
    assert 12 < last.step < 24, "it was to learn, and then to unlearn"
    assert trainer.state.global_step == last.step
    assert all(check.action is None and all(result.passed for result in check.rules) for check in met)
    assert (last.action, last.restored_step) == ("roll_back", met[-1].step)
    assert guard.restored_step == last.step - 4
    assert broken == [last]
    assert f"step {last.step} breaks id/test" in caplog.text

    good = tmp_path / f"checkpoint-{guard.restored_step}"
    assert list_checkpoints(tmp_path) == [good], "what breaks the rules is no checkpoint"
    assert_equal(load_file(good / "model.safetensors"), weights(trainer.model))
    assert_equal(seen.weights[guard.restored_step], weights(trainer.model))
    assert not torch.equal(seen.weights[last.step]["classifier.weight"], trainer.model.classifier.weight)
    trainer.save_model(tmp_path / "saved")
    assert_equal(load_file(tmp_path / "saved" / "model.safetensors"), weights(trainer.model))
    figures = {name: trainer.evaluate(dataset) for name, dataset in SETS.items()}
    assert {name: found["eval_accuracy"] for name, found in figures.items()} == {
        name: metrics["accuracy"] for name, metrics in met[-1].figures.items()
    }
    assert len(guard.history) == len(met) + 1, "an evaluation after the training is no check"
    assert written(tmp_path) == [plain(check) for check in guard.history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trainer → the folder, the weights and the history of a run that nobody kills."""

    @functools.cache
    def run(kind):
        folder = tmp_path_factory.mktemp("whole")
        trainer, guard = guarded(kind, folder)
        trainer.train()
        return folder, weights(trainer.model), guard.history

    return run


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("killed_at", [6, 17])
def test_killed_and_resumed_has_the_history_of_the_whole_run(kind, killed_at, whole, tmp_path):
    folder, expected, history = whole(kind)
    run = tmp_path / "run"
    first, _ = guarded(kind, run, callbacks=[KillAt(killed_at)])
    with pytest.raises(KilledError):
        first.train()
    if killed_at == 17:
        # As if the kill had come after a later check, before its checkpoint was whole: the check has to be made again.
        with (run / "guard.jsonl").open("a") as file:
            file.write(json.dumps({"step": 20, "figures": {}}) + "\n")

    second, again = guarded(kind, run)
    second.train(resume_from_checkpoint=True)
    assert (run / "guard.jsonl").read_bytes() == (folder / "guard.jsonl").read_bytes()
    assert again.history == history
    assert_equal(weights(second.model), expected)


@BOTH
@pytest.mark.slow
def test_a_run_that_was_moved_and_resumed_finds_its_good_checkpoint(kind, tmp_path):
    first, _ = guarded(kind, tmp_path / "run", callbacks=[KillAt(17)])
    with pytest.raises(KilledError):
        first.train()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    # The Trainer's own restoring of callbacks makes new ones, without their arguments: it has to pass the guard by.
    second, guard = guarded(kind, tmp_path / "moved", restore_callback_states_from_checkpoint=True)
    second.train(resume_from_checkpoint=True)
    assert guard.restored_step is not None
    assert_equal(
        load_file(tmp_path / "moved" / f"checkpoint-{guard.restored_step}" / "model.safetensors"), weights(second.model)
    )


@BOTH
def test_a_run_that_goes_on_in_another_folder_finds_its_good_checkpoint(kind, tmp_path):
    first, _ = falling(*guarded(kind, tmp_path / "first", rules=HALF, callbacks=[KillAt(13)]))
    with pytest.raises(KilledError):
        first.train()
    second, guard = falling(*guarded(kind, tmp_path / "second", rules=HALF))
    good = tmp_path / "first" / "checkpoint-12"
    second.train(resume_from_checkpoint=str(good))
    assert guard.restored_step == 12
    assert_equal(load_file(good / "model.safetensors"), weights(second.model))
    assert list_checkpoints(tmp_path / "second") == []


@pytest.mark.slow
@BOTH
def test_alert_goes_on_and_changes_nothing_of_the_training(kind, tmp_path):
    alone = make_trainer(kind, tmp_path / "alone")
    alone.train()
    broken = []
    trainer, guard = guarded(kind, tmp_path / "run", action="alert", guard_options={"on_broken": broken.append})
    trainer.train()
    assert_equal(weights(trainer.model), weights(alone.model))
    assert [check.step for check in guard.history] == [0, 4, 8, 12, 16, 20, 24]
    assert broken == [check for check in guard.history if check.action == "alert"]
    assert broken[-1].step == 24
    assert guard.restored_step is None
    assert list_checkpoints(tmp_path / "run") == [tmp_path / "run" / "checkpoint-24"]
    assert written(tmp_path / "run") == [plain(check) for check in guard.history]
    logged = [entry for entry in trainer.state.log_history if "guard_ood/noise_accuracy" in entry]
    assert [entry["guard_ood/noise_accuracy"] for entry in logged] == [
        check.figures["ood/noise"]["accuracy"] for check in guard.history
    ]


@BOTH
def test_stop_ends_the_training_with_the_weights_as_they_are(kind, tmp_path):
    seen = Remember()
    trainer, guard = guarded(kind, tmp_path, action="stop", callbacks=[seen])
    trainer.train()
    last = guard.history[-1]
    assert (last.action, last.restored_step, trainer.state.global_step) == ("stop", None, last.step)
    assert last.step < 24
    assert_equal(weights(trainer.model), seen.weights[last.step])
    assert list_checkpoints(tmp_path) == [tmp_path / f"checkpoint-{last.step - 4}"]


@BOTH
@pytest.mark.parametrize(("save_steps", "good"), [(4, 12), (8, 8)])
def test_the_last_good_checkpoint_outlives_the_rotation(kind, save_steps, good, tmp_path):
    class SaveMore(TrainerCallback):
        def on_step_end(self, args, state, control, **_):  # noqa: ARG002
            control.should_save |= state.global_step in (13, 14, 15)

    options = {"save_steps": save_steps, "save_total_limit": 2}
    trainer, guard = falling(*guarded(kind, tmp_path, rules=HALF, callbacks=[SaveMore()], **options))
    trainer.train()
    # Step 12 is the last one that meets the rule.
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-15", f"checkpoint-{good}"]
    assert guard.restored_step == good
    assert_equal(load_file(tmp_path / f"checkpoint-{good}" / "model.safetensors"), weights(trainer.model))


@BOTH
def test_nothing_to_roll_back_to_is_an_error(kind, tmp_path):
    trainer, guard = guarded(kind, tmp_path, rules=["id/test >= 1.0", "id/test < 1.0"])
    with pytest.raises(RuntimeError, match=r"step 24 breaks id/test.*nothing to roll back to"):
        trainer.train()
    assert guard.restored_step is None
    assert [line.get("action") for line in written(tmp_path)] == [None] * 6 + ["roll_back"]


@pytest.mark.parametrize(
    ("kind", "action"),
    [(FTPTrainer, "alert"), (FTPTrainer, "stop"), (FTPTrainer, "roll_back"), (Trainer, "roll_back")],
)
def test_a_new_head_may_learn_before_it_is_held_to_the_rules(kind, action, tmp_path, caplog):
    broken = []
    trainer, guard = guarded(
        kind, tmp_path, rules=HALF, action=action, guard_options={"on_broken": broken.append}, save_total_limit=9
    )
    # It knows nothing, learns, and forgets.
    figures = {0: 0.1, 4: 0.3, 8: 0.6, 12: 0.7, 16: 0.4}
    trainer.compute_metrics = lambda _: {"accuracy": figures.get(trainer.state.global_step, 0.6)}
    trainer.train()
    acted = [check.step for check in guard.history if check.action]
    assert acted == [check.step for check in broken] == [16]
    assert [check.rules[0].passed for check in guard.history[1:4]] == [False, True, True]
    assert guard.restored_step == (12 if action == "roll_back" else None)
    assert trainer.state.global_step == (24 if action == "alert" else 16)
    assert "step 4" not in caplog.text
    told = guard_note(guard.history)
    assert "armed once all had been met; up to step 4 some were not yet." in told
    assert "At 1 of them one was broken, the last time after step 16" in told


@pytest.mark.parametrize("action", ["alert", "stop"])
@pytest.mark.slow
def test_rules_that_were_never_met_are_said_to_be_broken_at_the_end(action, tmp_path, caplog):
    broken = []
    trainer, guard = guarded(
        FTPTrainer, tmp_path, rules=["id/test > 1.0"], action=action, guard_options={"on_broken": broken.append}
    )
    trainer.train()
    assert trainer.state.global_step == 24
    assert [check.action for check in guard.history] == [None] * 6 + [action]
    assert broken == [guard.history[-1]]
    assert "step 24 breaks id/test > 1.0" in caplog.text
    assert written(tmp_path) == [plain(check) for check in guard.history]


@pytest.mark.parametrize("action", ["alert", "stop"])
def test_the_best_weights_are_checked_where_the_trainer_ends_with_them(action, tmp_path, caplog):
    broken = []
    trainer, guard = guarded(
        FTPTrainer,
        tmp_path,
        rules=["id/test >= 0.4"],
        action=action,
        guard_options={"on_broken": broken.append},
        max_steps=12,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=False,
        save_total_limit=3,
    )
    # What is learnt is not what the Trainer takes for the best: that of step 4.
    trainer.compute_metrics = lambda _: {"accuracy": trainer.state.global_step / 24, "score": trainer.state.global_step}
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        trainer.train()

    assert trainer.state.best_global_step == 4
    assert [(check.step, check.action) for check in guard.history] == [(0, None), (4, action), (8, None), (12, None)]
    assert [check.step for check in broken] == [4]
    assert "Guard: step 4 breaks id/test >= 0.4" in caplog.text
    assert [line.get("action") for line in written(tmp_path)] == [None, action, None, None]
    summary = trainer.run_summary()
    told = guard_note(summary.guard, summary.kept_step)
    assert "The weights are those of step 4, the best that the Trainer found by a metric of its own." in told
    assert "one was broken, the last time after step 4" in told


def test_a_collator_with_random_numbers_of_its_own_draws_the_same(tmp_path):
    ends = []
    for watched in (False, True):
        trainer = make_trainer(FTPTrainer, tmp_path / str(watched), max_steps=8, save_strategy="no")
        if watched:
            trainer.add_callback(RobustnessGuard(trainer, SETS, ["id/test >= 0"]))
        collate = trainer.data_collator

        def dropping(rows, collate=collate):
            batch = collate(rows)
            batch["input_ids"][:, random.randrange(8)] = 5  # noqa: S311 - as collators do
            batch["input_ids"][:, np.random.randint(8)] = 6
            return batch

        trainer.data_collator = dropping
        random.seed(0)
        np.random.seed(0)
        trainer.train()
        ends.append(weights(trainer.model))
    assert_equal(*ends)


def test_the_rules_that_the_model_starts_with_count_from_the_first_evaluation(tmp_path, caplog):
    rules = ["ood_mean >= pretrained - 0.1"]
    trainer, guard = guarded(FTPTrainer, tmp_path, rules=rules, action="stop", ftp_exclude=["classifier.*"])
    trainer.compute_metrics = lambda _: {"accuracy": 0.9 if trainer.state.global_step == 0 else 0.5}
    trainer.train()
    assert "Nothing tells which parameters" not in caplog.text
    assert [(check.step, check.action) for check in guard.history] == [(0, None), (4, "stop")]


def test_with_eval_delay_the_rules_count_from_the_first_evaluation(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path, rules=["id/test > 1.0"], action="stop", eval_delay=8)
    trainer.train()
    assert [(check.step, check.action) for check in guard.history] == [(0, None), (8, "stop")]


def test_checks_begin_with_eval_delay(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path, eval_delay=8)
    trainer.evaluate()
    assert guard.history == [], "an evaluation before the training is no check"
    trainer.train()
    assert [check.step for check in guard.history][:3] == [0, 8, 12]


def test_a_damaged_checkpoint_is_not_rolled_back_to(tmp_path):
    class Damage(TrainerCallback):
        def on_evaluate(self, args, state, control, **_):  # noqa: ARG002
            if control.should_training_stop:
                file = tmp_path / f"checkpoint-{state.best_global_step}" / "model.safetensors"
                content = bytearray(file.read_bytes())
                content[-1] ^= 1
                file.write_bytes(content)

    trainer, guard = guarded(FTPTrainer, tmp_path)
    trainer.add_callback(Damage())
    with pytest.raises(RuntimeError, match=r"cannot be rolled back to: the checksum of model\.safetensors differs"):
        trainer.train()
    assert guard.restored_step is None


def test_a_projecting_optimizer_of_a_plain_trainer_lets_go_of_the_weights(tmp_path):
    torch.manual_seed(1)
    model = BertForSequenceClassification(CONFIG).bfloat16()
    before = {name: weight.float() for name, weight in weights(model).items()}
    trainer = make_trainer(Trainer, tmp_path, model=model)
    trainer.optimizer = FTPAdamW(model.named_parameters(), lr=1e-2)
    trainer.add_callback(seen := Remember())
    guard = RobustnessGuard(trainer, SETS, ["id/test >= 0.6"], action="roll_back")
    trainer.add_callback(guard)
    trainer.train()
    saved = load_file(tmp_path / f"checkpoint-{guard.restored_step}" / "model.safetensors")
    assert_equal(saved, weights(trainer.model))
    optimizer = projected_optimizer(trainer.optimizer)
    assert_equal(optimizer.anchors(), before)
    # A step that moves nothing by itself: masters left behind would put the broken weights back.
    trainer.model(
        **{name: torch.stack([torch.as_tensor(row[name]) for row in SETS["id/test"]]) for name in SETS["id/test"][0]}
    ).loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    bad = seen.weights[guard.history[-1].step]
    changed = [name for name, weight in saved.items() if not torch.equal(weight, bad[name])]
    assert len(changed) > 10
    assert not [name for name in changed if torch.equal(model.state_dict()[name], bad[name])]


@BOTH
@pytest.mark.parametrize(("end", "restored"), [(10, None), (14, 12)])
def test_weights_after_the_last_evaluation_are_checked_too(kind, end, restored, tmp_path):
    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **_):  # noqa: ARG002
            control.should_training_stop = state.global_step == end

    trainer, guard = falling(*guarded(kind, tmp_path, rules=HALF, callbacks=[StopAt()]))
    trainer.train()
    assert guard.history[-1].step == end
    assert guard.restored_step == restored


@pytest.mark.slow
def test_epochs(tmp_path):
    trainer, guard = guarded(
        FTPTrainer, tmp_path, eval_strategy="epoch", save_strategy="epoch", max_steps=-1, num_train_epochs=2,
        rules=["ood/noise >= 0.0"],
    )  # fmt: skip
    trainer.train()
    assert [(check.step, check.epoch) for check in guard.history] == [(0, 0), (24, 1.0), (48, 2.0)]
    assert guard.restored_step is None
    assert_equal(load_file(tmp_path / "checkpoint-48" / "model.safetensors"), weights(trainer.model))


@pytest.mark.slow
def test_a_second_training_keeps_the_pretrained_figures(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path, max_steps=8)
    trainer.train()
    first = guard.history
    trainer.train()
    assert guard.history[0] == first[0]
    assert [check.step for check in guard.history] == [0, 4, 8]
    assert guard.history[1].figures != first[1].figures


def test_metrics_that_are_not_finite_break_rules_and_are_valid_json(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path, rules=["ood/noise >= 0.0"], action="alert", max_steps=4)
    values = iter(
        [0.5, 0.5, 0.5, math.nan, math.nan]
    )  # id and ood before the first step; validation, id and ood at step 4
    trainer.compute_metrics = lambda _: {"accuracy": next(values)}
    trainer.train()
    assert guard.history[-1].figures["ood/noise"]["accuracy"] is None
    assert guard.history[-1].action == "alert"
    lines = (tmp_path / "guard.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == written(tmp_path)
    assert written(tmp_path)[-1]["rules"] == [
        {"rule": "ood/noise >= 0.0", "passed": False, "why": "a figure is not finite"}
    ]

    resumed, again = guarded(FTPTrainer, tmp_path, rules=["ood/noise >= 0.0"], action="alert", max_steps=8)
    resumed.train(resume_from_checkpoint=True)
    assert again.history[:2] == guard.history
    assert [check.action for check in again.history] == [None, "alert", None]


class Ruin(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **_):  # noqa: ARG002
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(math.nan)


def test_guessing_the_first_class_meets_no_rule(tmp_path):
    trainer, guard = guarded(
        FTPTrainer, tmp_path, rules=["ood/noise >= 0.0"], action="alert", max_steps=4, callbacks=[Ruin()]
    )
    trainer.compute_metrics = lambda prediction: {"accuracy": float((prediction.predictions.argmax(-1) == 0).mean())}
    with pytest.raises(FloatingPointError, match="training diverged"):
        trainer.train()
    assert guard.history[0].figures["ood/noise"]["accuracy"] is not None
    assert guard.history[-1].figures["ood/noise"] == {"accuracy": None, "loss": None}
    assert guard.history[-1].action == "alert"


def test_an_adapter_starts_as_the_pretrained_model(pretrained, tmp_path):
    peft = pytest.importorskip("peft")
    options = {"task_type": "SEQ_CLS", "target_modules": ["query"]}
    model = BertForSequenceClassification(CONFIG)
    model.save_pretrained(tmp_path / "whole")
    known = BertForSequenceClassification.from_pretrained(tmp_path / "whole")
    fresh = BertForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    rules = ["ood_mean >= pretrained - 0.9"]
    for base, head_is_new in ((known, False), (fresh, True)):
        adapted = peft.get_peft_model(base, peft.LoraConfig(**options))
        trainer = make_trainer(Trainer, tmp_path / "run", model=adapted, max_steps=4)
        if head_is_new:
            with pytest.raises(ValueError, match="are new"):
                RobustnessGuard(trainer, SETS, rules)
        else:
            trainer.add_callback(guard := RobustnessGuard(trainer, SETS, rules))
            trainer.train()
            assert guard.history[-1].rules[0].passed


def test_an_adapter_is_rolled_back_too(tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"])
    model = peft.get_peft_model(BertForSequenceClassification(CONFIG), config)
    trainer, guard = falling(*guarded(Trainer, tmp_path, model=model, rules=HALF))
    seen = Remember()
    trainer.add_callback(seen)
    trainer.train()
    assert guard.restored_step == 12
    assert_equal(seen.weights[12], weights(trainer.model))
    assert any(not torch.equal(weight, seen.weights[16][name]) for name, weight in weights(trainer.model).items())


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_resuming_a_run_that_had_no_guard(again, tmp_path):
    make_trainer(FTPTrainer, tmp_path, max_steps=4).train()
    trainer, _ = guarded(FTPTrainer, tmp_path)
    with pytest.raises(ValueError, match="the pre-trained model has no accuracy on ood/noise"):
        trainer.train(resume_from_checkpoint=True)
    trainer, guard = guarded(FTPTrainer, tmp_path / "second", rules=["id/test >= 0.6"])
    if again:
        trainer.train()
        assert guard.history[0].step == 0
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [check.step for check in guard.history][:3] == [4, 8, 12]
    assert guard.restored_step > 4


@pytest.mark.slow
def test_stricter_rules_on_resuming_judge_the_earlier_checkpoint_anew(tmp_path):
    first, _ = guarded(FTPTrainer, tmp_path, rules=["id/test >= 0.0"], max_steps=8)
    first.train()
    assert first.state.best_global_step == 8
    second, guard = guarded(FTPTrainer, tmp_path, rules=["id/test > 1.0"], max_steps=12)
    with pytest.raises(RuntimeError, match="nothing to roll back to"):
        second.train(resume_from_checkpoint=True)
    assert not check_rules(guard.rules, guard.history[-1].figures, {})[0].passed


# Run on two processes → the step of the weights that it ends with.
ENDS = {
    "FTPTrainer-roll_back": 4,
    "Trainer-roll_back": 4,
    "FTPTrainer-roll_back-fsdp": 4,
    "FTPTrainer-stop-fsdp": 2,
    "Trainer-roll_back-fsdp": 4,
}


@pytest.fixture(scope="module")
def on_two_processes(tmp_path_factory):
    """The folder of the runs."""
    folder = tmp_path_factory.mktemp("guarded")
    launch.fork("guarded.py", folder, *ENDS, processes=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_two_processes_end_with_the_same_checkpoint(name, on_two_processes):
    run, action = on_two_processes / name, name.split("-")[1]
    saved = load_file(run / f"checkpoint-{ENDS[name]}" / "model.safetensors")
    checks = {check["step"]: check for check in written(run)}
    assert {step: check.get("action") for step, check in checks.items()} == {0: None, 2: None, 4: None, 6: action}
    for rank in range(2):
        outcome = torch.load(run / f"outcome-{rank}.pt")
        assert outcome["restored_step"] == (4 if action == "roll_back" else None)
        assert outcome["called"] == (rank == 0)
        assert_equal(saved, outcome["weights"])
        assert outcome["loss"] == checks[ENDS[name]]["figures"]["ood/same"]["loss"]
