"""The report of a stream with known figures."""

import math
from dataclasses import replace
from functools import partial

import pytest

from ftp_hf.common.records import plain
from ftp_hf.compare.evidence.statistics import paired_difference
from ftp_hf.compare.evidence.stream_results import (
    MEASURES,
    StageCheck,
    StreamMethodFacts,
    StreamResults,
    StreamRun,
    is_stream,
)
from ftp_hf.compare.report.stream import stream_headline, write_stream_report
from ftp_hf.runs.facts import RuleResult

ORDERS = [["photo", "art", "sketch"], ["sketch", "photo", "art"]]
BEFORE = [0.1, 0.2, 0.15]


def matrix(forgetting, seed):
    """Each stage is learnt to 0.9, and loses so much with each that follows."""
    return [
        [
            0.9 - forgetting * (after - stage) - 0.01 * seed if after >= stage else BEFORE[stage] + 0.05
            for stage in range(3)
        ]
        for after in range(3)
    ]


@pytest.fixture
def results():
    forgetting = {"plain": 0.2, "ftp": 0.05}
    runs = [
        StreamRun(name, order, seed, matrix(lost, seed), BEFORE, {"speech": [0.1, 0.2, 0.3, 0.1 + lost]}, 60.0, 2**30)
        for name, lost in forgetting.items()
        for order in ORDERS
        for seed in (0, 1)
    ]
    joint = [
        StreamRun(
            "joint", ORDERS[0], seed, [[0.9, 0.9, 0.9 - 0.03 * seed]], BEFORE, {"speech": [0.1, 0.2]}, 30.0, 2**30
        )
        for seed in (0, 1)
    ]
    titles = {"plain": "sequential", "joint": "joint", "ftp": "FTP, previous"}
    return StreamResults(
        "trial",
        "accuracy",
        ORDERS[0],
        ORDERS,
        [0, 1],
        [StreamMethodFacts(name, title, "source", {"learning_rate": 1e-3}) for name, title in titles.items()],
        [*runs, *joint],
        {"speech": "wer"},
        {"stages": ORDERS[0]},
    )


def test_each_measure_is_one_figure_an_order_and_seed(results):
    assert results.measured("plain", "final average") == pytest.approx({0: 0.7, 1: 0.69, 2: 0.7, 3: 0.69})
    assert results.measured("plain", "forgetting") == pytest.approx(dict.fromkeys(range(4), 0.3))
    assert results.measured("ftp", "backward transfer") == pytest.approx(dict.fromkeys(range(4), -0.075))
    assert results.measured("ftp", "forward transfer") == pytest.approx(dict.fromkeys(range(4), 0.05))
    assert results.measured("joint", "final average") == pytest.approx({0: 0.9, 1: 0.89, 2: 0.9, 3: 0.89})
    assert results.measured("joint", "forgetting") == {}
    assert results.retained("ftp", "speech") == pytest.approx(dict.fromkeys(range(4), 0.15))
    assert results.retained("joint", "speech") == pytest.approx(dict.fromkeys(range(4), 0.2))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_difference_is_within_its_interval(results, measure):
    pairs = results.pairs("ftp", "plain", partial(results.measured, measure=measure))
    found = paired_difference(*pairs, results.possible(measure))
    assert found.low <= found.mean <= found.high


def test_the_best_that_trains_stage_after_stage_is_the_headline(results):
    assert stream_headline(results) == (
        "Best final average accuracy: FTP, previous, 84.5; +15.0\N{NO-BREAK SPACE}points [+15.0,\N{NO-BREAK SPACE}+15.0] against "
        "sequential training, which these runs do not tell from zero; joint training: 89.5."
    )


def hold_to_rules(results):
    """All stages meet the rule but for two of a stream, of which one is rolled back."""
    results.rules, results.when_broken = ["earlier_worst >= learnt - 0.1"], "roll_back"
    for run in results.runs:
        is_broken = (run.method, run.order, run.seed) == ("plain", ORDERS[1], 1)
        found = [RuleResult(results.rules[0], not is_broken, 0.85 - 0.25 * is_broken, 0.8, data=run.order[0])]
        if run.method != "joint":
            run.checks = [StageCheck(run.order[0]), *(StageCheck(stage, found) for stage in run.order[1:])]
        if is_broken:
            run.checks[1].rolled_back, run.checks[1].row = True, run.matrix[1]


def test_the_report_has_all_of_it(results, tmp_path):
    hold_to_rules(results)
    results.save(tmp_path)
    assert is_stream(tmp_path)
    loaded = StreamResults.load(tmp_path)
    assert plain(loaded) == plain(results)
    files = write_stream_report(loaded, tmp_path)
    names = {file.name for file in files}
    assert {
        "report.html",
        "report.md",
        "first-stage.png",
        "average.png",
        "retained-speech.png",
        "matrix-1.png",
    } == names
    report = (tmp_path / "report.md").read_text()
    assert "| FTP, previous | **84.5" in report
    assert "photo → art → sketch" in report
    assert "speech (wer in %, less is better)" in report
    assert "1.00\N{NO-BREAK SPACE}min" in report or "60\N{NO-BREAK SPACE}s" in report

    assert "| method | earlier_worst >= learnt - 0.1 | stages rolled back |" in report
    assert "| sequential | 6 of 8 | 1 of 12 |" in report
    assert "| FTP, previous | **8 of 8** | 0 of 12 |" in report
    row = "| sequential | order 2, seed 1, stage 2 | photo | earlier_worst >= learnt - 0.1 | 0.6 (sketch) | 0.8 | rolled back |"
    assert row in report
    assert row.replace("stage 2 | photo", "stage 3 | art").replace("rolled back |", "stays |") in report
    assert "An arrow marks the rows of stages that were rolled back" in report


def test_of_errors_the_least_is_the_best(results):
    for run in results.runs:
        run.matrix = [[1 - value for value in row] for row in run.matrix]
        run.before = [1 - value for value in run.before]
    results.metric = "wer"
    assert stream_headline(results).startswith("Best final average wer: FTP, previous, 15.5")
    assert results.measured("plain", "forgetting") == pytest.approx(dict.fromkeys(range(4), 0.3))


def test_a_method_that_diverged_is_not_the_best(results):
    results.of("plain")[0].matrix[-1][0] = math.nan
    assert stream_headline(results).startswith("Best final average accuracy: FTP, previous, 84.5")


def test_joint_training_is_one_run_a_seed(results, tmp_path):
    one_seed = replace(results, seeds=[0], runs=[run for run in results.runs if run.seed == 0])
    joint, plain = one_seed.pairs("joint", "plain", partial(one_seed.measured, measure="final average"))
    assert (joint, plain) == (pytest.approx({0: 0.9}), pytest.approx({0: 0.7}))
    write_stream_report(one_seed, tmp_path)
    rows = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| joint |")]
    assert rows[0].startswith("| joint | 90.0 |"), "a single run has no deviation"
    assert "[" not in rows[1], "nor a difference an interval"
