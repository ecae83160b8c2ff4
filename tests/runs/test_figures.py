"""Figures of one stage of training after the other."""

import math

from ftp_hf.runs.facts import Evaluation, StageFacts
from ftp_hf.runs.figures import Ability, abilities, learnt_figures, stages_of
from ftp_hf.runs.rules import check_summary, parse_rules
from ftp_hf.runs.summary import RunSummary
from tests.support.summaries import make_stages


def test_a_stage_goes_by_its_test_set(tmp_path):
    *_, summary = make_stages()
    assert stages_of(summary) == [
        StageFacts({"id/january": {"accuracy": 0.9}, "retained/old": {"wer": 0.1}}),
        StageFacts(
            {"id/february": {"accuracy": 0.8}, "earlier/january": {"accuracy": 0.85}, "retained/old": {"wer": 0.12}}
        ),
        StageFacts(
            {
                "id/march": {"accuracy": 0.7},
                "earlier/january": {"accuracy": 0.84},
                "earlier/february": {"accuracy": 0.6},
                "retained/old": {"wer": 0.15},
            }
        ),
    ]
    assert learnt_figures(summary.stages) == {
        "earlier/january": {"accuracy": 0.9},
        "earlier/february": {"accuracy": 0.8},
    }
    summary.save(tmp_path)
    assert RunSummary.load(tmp_path) == summary
    assert summary.headline() == "ID 70.0, earlier stages 72.0 (2 sets), retained wer 15.0 (before 9.0)"


def test_a_run_is_held_to_what_its_earlier_stages_learnt():
    first, second, third = make_stages()
    rules = parse_rules(["earlier_worst >= learnt - 0.06", "retained/old <= pretrained + 0.05"])
    assert [result.passed for result in check_summary(rules, second)] == [True, True]
    broken, _ = check_summary(rules, third)
    assert (broken.passed, broken.data, broken.value) == (False, "february", 0.6)
    assert check_summary(rules, first)[0].why == "there is no earlier set, only id/january, retained/old"
    third.stages = []
    assert "note_earlier_stages" in check_summary(rules, third)[0].why
    second.results = [each for each in second.results if each.kind != "earlier"]
    assert check_summary(rules, second)[0].why == "nothing was measured"


def test_a_figure_of_a_model_whose_loss_is_not_finite_meets_no_rule():
    metrics = {"accuracy": {"0": 0.5, "1": 0.8}, "loss": {"0": math.nan, "1": 0.4}}
    summary = RunSummary("run", "ftp", seed=0, results=[Evaluation("test", "id", metrics)])
    rules = parse_rules(["id/test >= 0.4"])
    assert [result.why for result in check_summary(rules, summary)] == ["a figure is not finite"]
    summary.seed = 1
    assert [result.passed for result in check_summary(rules, summary)] == [True]


def test_what_can_be_done_from_stage_to_stage():
    *_, summary = make_stages()
    stages = [stage.figures for stage in stages_of(summary)]
    assert abilities([{}, *stages]) == [
        Ability("january", "accuracy", [None, 0.9, 0.85, 0.84]),
        Ability("february", "accuracy", [None, None, 0.8, 0.6]),
        Ability("march", "accuracy", [None, None, None, 0.7]),
        Ability("retained old", "wer", [None, 0.1, 0.12, 0.15]),
    ]
    assert abilities([{"ood/sketch": {"accuracy": 0.5}}]) == []


def test_without_a_figure_there_is_none():
    nothing = RunSummary("run", "ftp", seed=0, results=[Evaluation("january", "id", {})])
    assert stages_of(nothing) == [StageFacts()]
