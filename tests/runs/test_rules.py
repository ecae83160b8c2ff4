import dataclasses
import math

import pytest

from ftp_hf import load_rules
from ftp_hf.cards.card import model_card
from ftp_hf.runs.facts import Evaluation, OtherModel
from ftp_hf.runs.figures import figures_of
from ftp_hf.runs.rules import check_rules, check_summary, describe, parse_rules
from tests.support.markdown import cells, section
from tests.support.summaries import make_summary

FIGURES = {
    "validation": {"accuracy": 0.8, "loss": 0.5},
    "id/test": {"accuracy": 0.9, "f1": 0.85, "loss": 0.3},
    "ood/sketch": {"accuracy": 0.6, "f1": 0.5, "loss": 1.5},
    "ood/cartoon": {"accuracy": 0.7, "f1": 0.7, "loss": 1.0},
    "retained/speech": {"loss": 0.9, "wer": 0.25, "kl": 0.3},
    "retained/read": {"loss": 0.8, "wer": 0.15, "kl": 0.1},
}
PRETRAINED = {
    "retained/speech": {"wer": 0.16},
    "retained/read": {"wer": 0.12},
    "id/test": {"accuracy": 0.5},
    "ood/sketch": {"accuracy": 0.65, "loss": 1.0},
    "ood/cartoon": {"accuracy": 0.7, "loss": 1.0},
}


def check(rule, figures=FIGURES, pretrained=PRETRAINED):
    return check_rules(parse_rules([rule]), figures, pretrained)[0]


@pytest.mark.parametrize(
    ("rule", "value", "threshold", "passed"),
    [
        ("ood/sketch >= 0.60", 0.6, 0.6, True),
        ("ood/sketch > 0.60", 0.6, 0.6, False),
        ("id/test>=.95", 0.9, 0.95, False),
        ("validation >= 0.8", 0.8, 0.8, True),
        ("  id/test:loss   <=   3e-1 ", 0.3, 0.3, True),
        ("id/test : f1 < 0.85", 0.85, 0.85, False),
        ("ood_mean >= 0.65", 0.65, 0.65, True),
        ("ood_mean:f1 > 0.59", 0.6, 0.59, True),
        ("ood_worst >= 0.65", 0.6, 0.65, False),
        ("ood_worst:loss <= 1.2", 1.5, 1.2, False),
        ("ood_worst > 0.65", 0.6, 0.65, False),
        ("ood_mean >= pretrained - 0.02", 0.65, 0.655, False),
        ("ood_mean >= pretrained \N{MINUS SIGN} 0.03", 0.65, 0.645, True),
        ("ood/sketch >= pretrained-0.05", 0.6, 0.6, True),
        ("id/test > pretrained + 0.4", 0.9, 0.9, False),
        ("ood_worst >= pretrained", 0.6, 0.65, False),
        ("ood_worst:loss < pretrained+1", 1.5, 2.0, True),
        ("forgetting <= 0.025", 0.025, 0.025, True),
        ("forgetting < 0.02", 0.025, 0.02, False),
        ("forgetting >= \N{MINUS SIGN}0.1", 0.025, -0.1, True),
        ("forgetting:loss <= 0.2", 0.25, 0.2, False),  # of which less is better: it has grown
        ("retained/speech:wer <= pretrained + 0.02", 0.25, 0.18, False),
        ("retained/read <= pretrained + 0.05", 0.15, 0.17, True),
        ("retained_mean <= 0.2", 0.2, 0.2, True),
        ("retained_worst <= 0.2", 0.25, 0.2, False),
        ("retained/speech:wer <= 1.2", 0.25, 1.2, True),  # there may be more errors than words
        ("retained/speech:wer > pretrained + 1.5", 0.25, 1.66, False),
        ("kl/retained <= 0.2", 0.2, 0.2, True),
        ("kl/retained/speech <= 0.2", 0.3, 0.2, False),
    ],
)
def test_rules_by_hand(rule, value, threshold, passed):
    result = check(rule)
    assert (result.value, result.threshold) == (pytest.approx(value), pytest.approx(threshold))
    assert result.passed is passed
    assert result.why is None
    assert result.rule == " ".join(rule.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ood/sketch",
        "ood/sketch => 0.6",
        "ood/sketch == 0.6",
        "ood/sketch >= 60%",
        "ood/sketch >= high",
        "ood/sketch >= 0.5 0.6",
        "0.6 <= ood/sketch",
        "ood/sketch >= pretrained 0.2",
        "ood/sketch >= pretrained -",
        "ood/sketch >= pretrained * 2",
        "ood/sketch >= 0.5 - pretrained",
        "ood/sketch: >= 0.5",
        "test >= 0.5",
        "ood/ >= 0.5",
        "mean >= 0.5",
        "__import__('os').getcwd() >= 0",
    ],
)
def test_what_is_no_rule_is_refused_with_the_grammar(text):
    with pytest.raises(ValueError, match=r"the rule .*QUANTITY OPERATOR NUMBER.*id/NAME.*>= <= > <"):
        parse_rules([text])


def test_forgetting_compares_already():
    with pytest.raises(ValueError, match="compares twice"):
        parse_rules(["forgetting <= pretrained + 0.1"])


@pytest.mark.parametrize("rules", ["id/test >= 0.9", [0.5], {"id/test": 0.9}, 7])
def test_rules_are_a_list_of_texts(rules):
    with pytest.raises(TypeError, match="list of texts"):
        parse_rules(rules)


def test_no_rules_are_no_pass():
    with pytest.raises(ValueError, match="rules is empty"):
        parse_rules([])


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (
            "ood/blur >= 0.1",
            "there is no set ood/blur, only validation, id/test, ood/sketch, ood/cartoon, retained/speech, retained/read",
        ),
        ("id/test:recall >= 0.1", "the model has no recall on id/test, only accuracy, f1, loss"),
        ("id/test:f1 >= pretrained", "the pre-trained model has no f1 on id/test, only accuracy"),
        ("validation >= pretrained", "the pre-trained model has no accuracy on validation"),
        ("ood/sketch >= 60", "accuracy is a share in [0, 1], not in percent: write 0.6"),
        ("ood/sketch >= 1.5", "accuracy is a share in [0, 1], not in percent: write 0.015"),
        ("retained/speech <= 5", "wer is a share where 1 means 100 %, not in percent: write 0.05"),
    ],
)
def test_what_is_not_known_fails_and_says_why(rule, why):
    result = check(rule)
    assert not result.passed
    assert (result.value, result.why) == (None, why)
    assert describe(result) == f"{rule} ({why})"


def test_a_set_may_be_called_as_its_kind():
    results = [
        Evaluation(name, "retained", {"accuracy": {"0": value}}) for name, value in (("retained", 0.8), ("old", 0.4))
    ]
    for rule, value in [("retained/retained >= 0", 0.8), ("retained >= 0", 0.8), ("retained_mean >= 0", 0.6)]:
        (result,) = check_rules(parse_rules([rule]), figures_of(results), {})
        assert result.value == pytest.approx(value), rule


def test_a_rule_over_sets_that_are_measured_in_several_ways_names_one_that_all_have():
    figures = {"retained/speech": {"loss": 1.0, "wer": 0.2}, "retained/web": {"loss": 3.0}}
    by_default, named = check_rules(parse_rules(["retained_mean <= 0.5", "retained_mean:loss <= 2"]), figures, {})
    assert (by_default.passed, named.passed) == (False, True)
    assert by_default.why.startswith("the sets are measured in several ways: write retained_mean:METRIC")


@pytest.mark.parametrize(
    "rule", ["ood_mean >= 0", "ood_worst >= 0", "ood_worst <= 1", "forgetting <= 1", "ood/sketch < 1"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_not_finite_fails(rule, value):
    figures = {**FIGURES, "ood/sketch": {"accuracy": value}}
    result = check(rule, figures)
    assert (result.passed, result.why) == (False, "a figure is not finite")
    if rule.startswith("forgetting"):
        assert not check(rule, FIGURES, figures).passed


def test_a_set_without_the_metric_is_not_left_out_of_the_mean():
    assert not check("ood_mean >= 0.1", {**FIGURES, "ood/sketch": {"loss": 1.0}}).passed
    assert not check("ood_mean >= 0.1", {"id/test": {"accuracy": 0.9}}).passed
    assert not check("id/test >= 0.1", {}).passed


def test_the_loss_serves_where_nothing_else_was_measured():
    assert check("ood/sketch <= 2", {"ood/sketch": {"loss": 1.5}}).value == 1.5


def test_a_summary_is_checked_by_the_kept_weights_and_agrees_with_its_card():
    summary = make_summary(0)
    for result in summary.results:
        result.metrics["accuracy"]["1"] = 0.0
    before = [
        Evaluation(result.data, result.kind, {"accuracy": {"3": 0.7, "4": 0.8}})
        for result in summary.results
        if result.kind == "ood"
    ]
    summary.comparisons.append(OtherModel("pre-trained", before))
    results = check_summary(
        parse_rules(["id/test >= 0.9", "ood_mean >= 0.6", "forgetting <= 0.1", "ood/sketch >= pretrained - 0.3"]),
        summary,
    )
    assert [result.passed for result in results] == [True, True, False, True]
    assert [result.value for result in results] == pytest.approx([0.9, 0.6, 0.15, 0.5])
    assert results[3].threshold == pytest.approx(0.45)
    shown = {row[0]: row[1] for row in cells(section(model_card(summary).text, "Results"))}
    assert shown["OOD mean lost"] == f"{100 * results[2].value:.1f}"
    assert shown["**OOD mean**"] == f"{100 * results[1].value:.1f}"

    unseen = dataclasses.replace(summary, seed=7)
    assert not any(result.passed for result in check_summary(parse_rules(["id/test >= 0.1"]), unseen))


def test_sets_are_called_as_evaluations_are():
    results = [
        Evaluation("validation", "validation", {"loss": {"0": 1.0}}),
        Evaluation("dev", "validation", {"loss": {"0": 2.0}}),
    ]
    assert figures_of(results) == {"validation": {"loss": 1.0}, "validation/dev": {"loss": 2.0}}


def test_file_of_rules(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text("metric: f1  # everywhere\nrules:\n  - id/test >= 0.8\n  - ood/sketch:accuracy >= 0.6\n")
    assert [rule.metric for rule in load_rules(file)] == ["f1", "accuracy"]
    assert [result.value for result in check_rules(load_rules(file), FIGURES, {})] == [0.85, 0.6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rule:\n - id/test >= 1\n", "unknown key 'rule'; the keys are rules and metric"),
        ("rules: id/test >= 0.9", "rules must be a list of texts"),
        ("- id/test >= 0.9", "rules must be a list of texts"),
        ("", "rules must be a list of texts"),
        ("metric: f1", "rules must be a list of texts"),
        ("rules: []", "name at least one rule"),
        ("rules:\n - {id/test: 0.9}", "list of texts"),
        ("rules:\n - id/test = 0.9", "the rule 'id/test = 0.9' is not understood"),
        ("metric: [f1]\nrules:\n - id/test >= 0.9", "metric must be the name of a metric"),
        ("rules: [", "is not YAML"),
        ("rules: []\nrules: []", "the key 'rules' is in line 1 and in line 2: delete one"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, content, message):
    file = tmp_path / "rules.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"rules\.yaml.*") as refused:
        load_rules(file)
    assert message in str(refused.value)


LATER = {
    "id/march": {"accuracy": 0.8},
    "earlier/january": {"accuracy": 0.8, "wer": 0.3},
    "earlier/february": {"accuracy": 0.6, "wer": 0.2},
}
LEARNT = {"earlier/january": {"accuracy": 0.9, "wer": 0.1}, "earlier/february": {"accuracy": 0.62, "wer": 0.15}}
FIRST = {"earlier/january": {"accuracy": 0.5}, "earlier/february": {"accuracy": 0.4}}


@pytest.mark.parametrize(
    ("rule", "data", "value", "threshold", "passed"),
    [
        ("earlier/january >= learnt - 0.1", None, 0.8, 0.8, True),
        ("earlier_mean >= learnt - 0.05", None, 0.7, 0.71, False),
        ("earlier_mean >= pretrained + 0.2", None, 0.7, 0.65, True),
        ("earlier_worst >= 0.55", "february", 0.6, 0.55, True),
        ("earlier_worst >= learnt - 0.05", "january", 0.8, 0.85, False),  # though february has the lower figure
        ("earlier_worst:wer <= learnt + 0.1", "january", 0.3, 0.2, False),
        ("earlier_worst > pretrained", "february", 0.6, 0.4, True),
    ],
)
def test_earlier_stages(rule, data, value, threshold, passed):
    result = check_rules(parse_rules([rule]), LATER, FIRST, LEARNT)[0]
    assert (result.value, result.threshold) == (pytest.approx(value), pytest.approx(threshold))
    assert (result.passed, result.data) == (passed, data)
    assert describe(result) == f"{rule} ({f'{data}: ' if data else ''}it is {value:.4g}, against {threshold:.4g})"


def test_an_earlier_stage_that_was_not_evaluated_breaks_the_rule():
    learnt = {**LEARNT, "earlier/december": {"accuracy": 0.7}}
    result = check_rules(parse_rules(["earlier_worst >= learnt - 0.5"]), LATER, {}, learnt)[0]
    assert (result.passed, result.why) == (False, "the model has no accuracy on earlier/december")
    alone = check_rules(parse_rules(["earlier_mean >= learnt"]), {"id/january": {"accuracy": 1.0}}, {})[0]
    assert (alone.passed, alone.why) == (False, "there is no earlier set, only id/january")


def test_only_stages_were_learnt():
    with pytest.raises(ValueError, match="retained_mean is no earlier stage: write pretrained, or a number"):
        parse_rules(["retained_mean >= learnt"])
