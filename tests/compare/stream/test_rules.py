"""What stages are held to, and which model the next one starts from: with known figures, nothing is trained here."""

import pytest

from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.stream.config import StreamConfig
from ftp_hf.compare.stream.plan import stages_before
from ftp_hf.compare.stream.rules import check_stage, rules_without_metrics
from ftp_hf.compare.stream.stage_outcome import StageOutcome
from ftp_hf.runs.facts import PRETRAINED, Evaluation, RuleResult
from ftp_hf.runs.figures import figures_of
from ftp_hf.runs.summary import RunSummary
from tests.support.tiny_data import write_config
from tests.support.tiny_streams import STAGES, chain, stream_config

RULES = [
    "earlier_worst >= learnt - 0.1",
    "retained_mean:wer <= pretrained + 0.05",
    "id/test >= 0.5",
    "earlier/songs >= 0.7",
]


def load(folder, **changes):
    retained = [f"old={folder / 'old'}.parquet"]
    return StreamConfig.load(
        write_config(folder, stream_config(folder, retained=retained, **{"rules": RULES, **changes}))
    )


def left(config, run, row, wer=0.2):
    """A model with these accuracies on films, songs and meals."""
    stage = run.config.stage
    results = [
        Evaluation(*(("test", "id") if name == stage else (name, "ood")), {"accuracy": {"0": value}})
        for name, value in zip(config.stages, row, strict=True)
    ]
    old = Evaluation("old", "retained", {"loss": {"0": 1.0}, "wer": {"0": wer}})
    return StageOutcome(run, ComparedRun(run.method, {}, 0, RunSummary("run", run.method, results=[*results, old])))


@pytest.fixture
def config(tmp_path):
    return load(tmp_path)


@pytest.fixture
def models(config):
    """That before any stage, and two stages of which neither forgets anything."""
    before = left(config, Run(PRETRAINED, {}, 0, config=config.first), [0.5, 0.0, 0.0])
    first, second, _ = chain(config, "plain", STAGES, 0)
    return before, left(config, first, [0.9, 0.0, 0.0]), left(config, second, [0.85, 0.8, 0.0])


def test_rules_are_checked_as_soon_as_their_stages_are_earlier_ones(config, models):
    before, first, second = models
    third = left(config, chain(config, "plain", STAGES, 0)[2], [0.9, 0.75, 0.9], wer=0.25)
    names = [
        [result.rule for result in check_stage(config, kept, model, STAGES).rules]
        for kept, model in [((before,), first), ((before, first), second), (models, third)]
    ]
    assert names == [RULES[1:3], RULES[:3], RULES]
    check = check_stage(config, models, third, STAGES)
    assert check.rules == [
        RuleResult(RULES[0], True, 0.75, pytest.approx(0.7), data="songs"),
        RuleResult(RULES[1], True, 0.25, 0.25),
        RuleResult(RULES[2], True, 0.9, 0.5),
        RuleResult(RULES[3], True, 0.75, 0.7),
    ]
    assert (check.rolled_back, check.row, check.broken) == (False, [], [])


def test_a_stage_is_held_to_what_each_could_do_when_it_was_learnt(config, models):
    third = left(config, chain(config, "plain", STAGES, 0)[2], [0.75, 0.8, 0.9])
    check = check_stage(config, models, third, STAGES)
    assert check.broken == [RuleResult(RULES[0], False, 0.75, pytest.approx(0.8), data="films")]
    assert (check.rolled_back, check.row) == (True, [0.75, 0.8, 0.9])


def test_a_stage_that_was_rolled_back_is_no_earlier_one(config, models):
    before, first, _ = models
    third = left(config, chain(config, "plain", STAGES, 0, {1})[2], [0.8, 0.0, 0.9])
    check = check_stage(config, [before, first], third, STAGES)
    assert [result.rule for result in check.rules] == RULES[:3]
    assert not check.broken


def test_an_alert_leaves_the_model_where_it_is(tmp_path, models):
    config = load(tmp_path, when_broken="alert")
    third = left(config, chain(config, "plain", STAGES, 0)[2], [0.0, 0.8, 0.4])
    check = check_stage(config, models, third, STAGES)
    assert [result.rule for result in check.broken] == [RULES[0], RULES[2]]
    assert (check.rolled_back, check.row) == (False, [])


def test_all_stages_at_once_are_held_to_nothing(tmp_path, models):
    config = load(tmp_path, methods=["joint"])
    (run,) = chain(config, "joint", STAGES, 0)
    assert check_stage(config, models[:1], left(config, run, [0.1, 0.1, 0.1]), STAGES).rules == []


def test_the_next_stage_starts_from_the_model_before(config, tmp_path):
    def folders(rolled_back):
        return [run.folder(tmp_path, config.first) for run in chain(config, "plain", STAGES, 0, rolled_back)]

    plain, second_back, first_back = folders(()), folders({1}), folders({0})
    assert second_back[:2] == plain[:2]
    last = chain(config, "plain", STAGES, 0, {1})[2]
    assert stages_before(last) == ["films"]
    assert chain(config, "plain", STAGES, 0, {0})[1].base is None
    assert len({plain[2], second_back[2], first_back[2]}) == 3
    # A stage that knows nothing of the one before is the run that another order begins with.
    assert first_back[1] == chain(config, "plain", ["songs", "films", "meals"], 0)[0].folder(tmp_path, config.first)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("earlier_mean:f3 >= 0.5", "the model has no f3 on earlier/films, only accuracy"),
        ("earlier/meals >= learnt - 5", "accuracy is a share in .* write -0.05"),
        ("kl/retained <= 0.1", "the model has no kl on retained/old"),
    ],
)
def test_what_is_not_measured_cannot_be_a_rule(tmp_path, rule, why):
    config = load(tmp_path, rules=[RULES[0], rule])
    before = left(config, Run(PRETRAINED, {}, 0, config=config.first), [0.5, 0.0, 0.0])
    with pytest.raises(ValueError, match=f"rules: '{rule}' cannot be checked: {why}") as error:
        rules_without_metrics(config.rules, before.stage, figures_of(before.measured.summary.results, "0")).raise_all()
    assert not error.value.__notes__
