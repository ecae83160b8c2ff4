"""What a Trainer tells of a stage that follows others, and what its guard knows of them."""

import pytest

from ftp_hf import FTPTrainer, RunSummary
from ftp_hf.runs.facts import PRETRAINED, BaseModel, DataFacts, StageFacts
from ftp_hf.runs.rules import check_summary, parse_rules
from tests.support.guarded import SETS, guarded, make_trainer

JANUARY, OLD = SETS["id/test"], SETS["ood/noise"]


def trainer_of(folder):
    return make_trainer(FTPTrainer, folder, max_steps=2, eval_strategy="no", save_strategy="no")


def note(trainer, data, name, kind, model=None):
    metrics = trainer.evaluate(data)
    trainer.note_evaluation(metrics, DataFacts(name, kind, len(data)), model=model)
    return metrics["eval_accuracy"]


@pytest.fixture
def january(tmp_path):
    """A finished first stage."""
    trainer = trainer_of(tmp_path / "january")
    note(trainer, JANUARY, "january", "id", PRETRAINED)
    note(trainer, OLD, "old", "retained", PRETRAINED)
    trainer.train()
    note(trainer, JANUARY, "january", "id")
    note(trainer, OLD, "old", "retained")
    trainer.save_run_summary()
    return RunSummary.load(tmp_path / "january")


def test_a_later_stage_knows_the_earlier_ones(january, tmp_path):
    january.base_model = BaseModel("someone/encoder")
    january.save(tmp_path / "january")
    trainer = trainer_of(tmp_path / "february")
    trainer.note_earlier_stages(tmp_path / "january")
    trainer.train()
    now = note(trainer, JANUARY, "january", "earlier")
    note(trainer, OLD, "february", "id")
    second = trainer.run_summary()
    was = january.value("january")
    assert second.stages == [
        StageFacts({"id/january": measured(january, "january"), "retained/old": measured(january, "old")})
    ]
    assert second.base_model.name == "someone/encoder"
    # What was measured of the pre-trained model stands, and its test set is that of an earlier stage now.
    assert [(each.kind, each.data) for each in second.pretrained.results] == [
        ("earlier", "january"),
        ("retained", "old"),
    ]
    rules = parse_rules([f"earlier_worst >= learnt - {was - now + 0.001:.4f}", "earlier/january:loss < learnt - 99"])
    kept, broken = check_summary(rules, second)
    assert (kept.passed, kept.data, kept.value, broken.passed) == (True, "january", now, False)

    # The same Trainer goes on with a third stage: what was noted of the second is part of its past now.
    trainer.note_earlier_stages(second)
    third = trainer.run_summary()
    assert [list(stage.figures) for stage in third.stages] == [
        ["id/january", "retained/old"],
        ["id/february", "earlier/january"],
    ]
    assert third.results == []
    assert [each.kind for each in third.pretrained.results] == ["earlier", "retained"]


def measured(summary, data):
    result = next(each for each in summary.results if each.data == data)
    return {metric: values[str(summary.seed)] for metric, values in result.metrics.items()}


def test_the_guard_compares_with_what_was_learnt(january, tmp_path):
    rules = ["earlier_worst >= learnt - 0.1", "earlier/january:loss <= learnt + 9"]
    trainer, guard = guarded(
        FTPTrainer, tmp_path / "february", rules=rules, data={"earlier/january": JANUARY}, action="alert", max_steps=4
    )
    with pytest.raises(ValueError, match=r"cannot be checked.*tell the Trainer about them with note_earlier_stages"):
        trainer.train()
    trainer.note_earlier_stages(january)
    trainer.train()
    found = guard.history[-1].rules[0]
    assert (found.data, found.threshold) == ("january", pytest.approx(january.value("january") - 0.1))
    assert trainer.run_summary().guard[-1].rules[0] == found
