"""What a card tells of the guard."""

import pytest
from transformers import Trainer

from ftp_hf import FTPTrainer, ModelCardMixin, RunSummary
from ftp_hf.cards.card import model_card
from ftp_hf.cards.guard import guard_history
from ftp_hf.runs.facts import GuardCheck, RuleResult
from tests.support.guarded import HALF, falling, guarded, make_trainer
from tests.support.markdown import cells, section


@pytest.mark.slow
def test_summary_and_card_tell_the_history(tmp_path):
    trainer, guard = guarded(FTPTrainer, tmp_path, logging_steps=4)
    trainer.train()
    trainer.create_model_card()
    summary = RunSummary.load(tmp_path)
    assert summary.guard == guard.history
    assert summary.kept_step == guard.restored_step
    assert summary.results[0].metrics["loss"] == {
        "42": next(
            entry["eval_loss"]
            for entry in trainer.state.log_history
            if entry["step"] == guard.restored_step and "eval_loss" in entry
        )
    }
    logged = next(
        entry for entry in trainer.state.log_history if entry["step"] == guard.restored_step and "loss" in entry
    )
    assert max(known.radius for known in summary.projection.radii.values()) == logged["ftp_radius_max"]
    told = section((tmp_path / "README.md").read_text(), "Guard")
    last = guard.history[-1]
    table = cells(told)
    start = guard.history[0].figures["ood/noise"]["accuracy"]
    assert table[0] == ["step", "`id/test >= 0.6`", f"`ood_mean >= pretrained` ({start:.4g})", "action"]
    assert [row[0] for row in table[2:]] == [str(check.step) for check in guard.history[1:]]
    assert table[-1][1] == f"{last.rules[0].value:.4g}, broken"
    assert table[-1][-1] == f"training stopped, back to step {guard.restored_step}"
    assert f"The weights are those of step {guard.restored_step}" in told


@pytest.mark.slow
def test_a_card_tells_of_alerts_and_of_none(tmp_path):
    trainer, _ = falling(*guarded(FTPTrainer, tmp_path, rules=HALF, action="alert"))
    trainer.train()
    told = section(model_card(trainer.run_summary()).text, "Guard")
    assert "at 6 evaluations" in told
    assert "At 3 of them one was broken, the last time after step 24: ood_mean >= 0.5 (it is 0, against 0.5)." in told
    assert "The weights are those" not in told
    assert [row[-1] for row in cells(told)[2:]] == ["", "", "", "alert", "alert", "alert"]
    summary = trainer.run_summary()
    summary.guard = summary.guard[:3]
    assert "All were met every time." in section(model_card(summary).text, "Guard")


def test_a_long_history_is_thinned_but_for_what_was_broken():
    checks = [
        GuardCheck(step, rules=[RuleResult("id/test >= 0.5", passed=step != 7, value=0.4, threshold=0.5)])
        for step in range(1, 101)
    ]
    checks[6].action = "alert"
    steps = [int(row[0]) for row in cells(guard_history(checks))[2:]]
    assert len(steps) <= 15
    assert {7, 100} <= set(steps)


def test_a_card_without_a_guard_has_no_section(tmp_path):
    trainer = make_trainer(FTPTrainer, tmp_path, max_steps=1)
    trainer.train()
    trainer.create_model_card()
    assert "Guard" not in (tmp_path / "README.md").read_text()


def test_a_plain_trainer_with_cards_tells_the_history_too(tmp_path):
    class PlainTrainer(ModelCardMixin, Trainer):
        pass

    trainer, guard = guarded(PlainTrainer, tmp_path, rules=["id/test >= 0.8"])
    trainer.train()
    summary = trainer.run_summary()
    assert (summary.kept_step, summary.guard) == (guard.restored_step, guard.history)
    assert summary.kept_step < trainer.state.global_step
