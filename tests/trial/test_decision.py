"""The page for a decision: what it says of a comparison, in both languages, and what a person wrote around it."""

import re
import shlex

import pytest

from ftp_hf.cli import main
from ftp_hf.common.figures import SPACE
from ftp_hf.trial.decision import facts_of, write_decision
from ftp_hf.trial.pages import CHECKLIST, DECISION, LANGUAGES, render
from tests.support.comparisons import GAIN, LOSS, PLAIN, TIE, comparison, lost, with_retained

RULES = ["id/test >= 0.91", "ood_mean >= 0.5"]


def one_rate(results):
    for method in results.methods:
        method.sweep = {"learning_rate": [1e-3]}
    return results


def trial(folder, results, language="en"):
    (folder / "comparison").mkdir(parents=True)
    results.save(folder / "comparison")
    (folder / DECISION).write_text(render(language, DECISION, folder=folder), encoding="utf-8")
    return folder


def text_of(folder):
    return write_decision(folder).read_text(encoding="utf-8").replace(SPACE, " ")


def test_benefit_cost_and_rules_are_those_of_the_comparison(tmp_path):
    results = with_retained(
        comparison(rules=RULES), "speech", "wer", 0.2, {"plain": [0.5] * 3, "ftp": [0.3, 0.31, 0.29]}
    )
    facts = facts_of(results)
    assert (facts["method"], facts["seeds"]) == ("FTP", 3)
    assert facts["rules"] == [("id/test >= 0.91", 2, 3), ("ood_mean >= 0.5", 3, 3)]
    by_kind = {each.kind: each for each in facts["benefits"]}
    ood, speech = by_kind["ood"], by_kind["retained/speech"]
    assert [ood.plain.replace(SPACE, " "), ood.ours.replace(SPACE, " "), ood.sign] == ["61.0 ± 1.0", "63.0 ± 1.1", 1]
    assert ood.difference.startswith("+2.0")
    assert [speech.before, speech.less_is_better, speech.sign] == ["20.0", True, 1]
    assert by_kind["id"].sign == 0
    text = text_of(trial(tmp_path, results))
    assert "| retained: speech | wer (less is better) | 20.0 | 50.0 ± 0.0 | 30.0 ± 1.0 | −20.0" in text
    assert "| `id/test >= 0.91` | 2 of 3 |" in text
    assert "**None.**" in text  # one run breaks a rule


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_holds_the_run_to_the_rules_of_the_comparison(tmp_path, language):
    folder = trial(tmp_path / "our trial", comparison(rules=RULES, metric="balanced_accuracy"), language)
    command = next(line for line in text_of(folder).splitlines() if line.startswith("ftp-hf push"))
    # That file names their metric; the one in the folder of the trial may name none.
    assert shlex.split(command)[2:] == [
        f"{folder}/comparison/runs/RUN", "USER/NAME", "--rules", f"{folder}/comparison/rules.yaml"
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "said"), [("en", "cannot be checked: "), ("ja", "確かめられません:")])
def test_of_a_rule_that_cannot_be_checked_it_is_said_why(tmp_path, language, said):
    text = text_of(trial(tmp_path, comparison(rules=["id/test:f1 >= 0.5", "ood_mean >= 0.5"]), language))
    assert f"| `id/test:f1 >= 0.5` | {said}the model has no f1 on id/test, only accuracy |" in text
    assert re.search(r"`ood_mean >= 0.5` \| 3 (of 3|回中 3 回) \|", text)


def test_a_recommended_run_is_named_with_its_folder(tmp_path):
    results = comparison()
    for run in results.chosen_runs("ftp"):
        run.folder = f"runs/ftp-seed{run.seed}"
    text = text_of(trial(tmp_path, results))
    assert "**FTP** (" in text
    assert "clearly worse in nothing. Its weights" in text, "there are no rules to meet"
    results.rules = ["id/test >= 0.5"]
    for language, said in [("en", "all\nof its runs meet the rules. Its weights"), ("ja", "条件を満たしました。")]:
        assert said in text_of(trial(tmp_path / language, results, language))
    assert f"ftp-hf push {tmp_path}/comparison/runs/ftp-seed2 USER/NAME" in text


@pytest.mark.parametrize(
    ("results", "doubts"),
    [
        (comparison({"plain": PLAIN, "ftp": LOSS}), {"losses", "no_retained", "no_rules"}),
        (comparison({"plain": PLAIN[:2], "ftp": GAIN[:2]}, rules=RULES), {"few_seeds", "no_retained"}),
        (comparison({"plain": PLAIN, "ftp": TIE}, ood=(), rules=RULES), {"no_ood", "no_retained"}),
        (comparison({"plain": PLAIN, "ftp": lost(GAIN)}), {"diverged", "no_small_rates"}),
        (one_rate(comparison({"plain": PLAIN, "ftp": GAIN, "small-lr": PLAIN})), {"one_rate"}),
    ],
    ids=["losses", "few_seeds", "no_ood", "diverged", "one_rate"],
)
def test_what_speaks_against_the_figures_is_said(tmp_path, results, doubts):
    assert doubts <= facts_of(results)["doubts"].keys()
    for language in LANGUAGES:
        text = text_of(trial(tmp_path / language, results, language))
        risks = text.split("\n## ")[4]
        assert risks.count("\n- ") == len(facts_of(results)["doubts"])


def test_a_small_learning_rate_among_the_methods_leaves_no_such_doubt():
    doubts = facts_of(comparison({"plain": PLAIN, "ftp": GAIN, "small-lr": PLAIN}))["doubts"]
    assert doubts.keys().isdisjoint({"no_small_rates", "one_rate", "diverged"})


def test_sets_of_few_rows_are_named():
    results = with_retained(comparison(rules=RULES), "speech", "wer", 0.2, {"plain": [0.5] * 3, "ftp": [0.3] * 3})
    assert "speech (32)" in facts_of(results)["doubts"]["small"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_person_wrote_stays_and_figures_are_replaced(tmp_path, language):
    folder = trial(tmp_path, comparison(), language)
    file = folder / DECISION
    page = file.read_text(encoding="utf-8")
    file.write_text(page.replace("# ", "# Ours: ", 1) + "\nSigned.\n", encoding="utf-8")
    once = text_of(folder)
    assert once.startswith("# Ours: ")
    assert once.endswith("\nSigned.\n")
    assert "61.0 ± 1.0" in once
    assert text_of(folder) == once


def test_both_languages_have_the_same_parts():
    for page in (CHECKLIST, DECISION, "figures.md"):
        texts = [render(language, page, **facts_of(comparison()), folder="trial") for language in LANGUAGES]
        for mark in (r"^#+ ", r"^- \[ \] ", r"^\|", r"^ftp-hf "):
            counts = {len(re.findall(mark, text, re.MULTILINE)) for text in texts}
            assert len(counts) == 1, (page, mark)


def test_what_is_missing_is_an_error_with_its_remedy(tmp_path, capsys):
    assert main(["trial", "report", str(tmp_path)]) == 1
    assert "ftp-hf trial init" in capsys.readouterr().err
    folder = trial(tmp_path, comparison({"plain": PLAIN}))
    with pytest.raises(ValueError, match="add both to its methods"):
        write_decision(folder)
    (folder / DECISION).write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has lost the marks"):
        write_decision(folder)


def test_without_a_recommendation_the_page_is_about_the_first_method_with_a_projection():
    results = comparison({"plain": PLAIN, "l2-sp": TIE, "ftp": TIE})
    results.method("ftp").name = "ftp-share"
    for run in results.runs:
        run.method = run.method.replace("ftp", "ftp-share")
    assert facts_of(results)["method"] == "FTP"
