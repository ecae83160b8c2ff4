"""Retained data, the pre-trained model, and metrics of which less is better: in tables, verdicts, charts and choices."""

import pytest

from ftp_hf.common.figures import metric_named
from ftp_hf.compare.evidence.differences import differences_to_plain, matched_difference
from ftp_hf.compare.evidence.measures import pretrained_figure
from ftp_hf.compare.evidence.statistics import matched_ood
from ftp_hf.compare.evidence.tuning import choose
from ftp_hf.compare.evidence.verdict import headline, verdicts
from ftp_hf.compare.report.tables import means_table, paired_table, retained_table, rules_table
from ftp_hf.compare.report.write import write_report
from ftp_hf.runs.facts import Evaluation
from tests.support.comparisons import comparison, with_retained

# Word errors of seeds 0, 1, 2 on ordinary speech: plain fine-tuning loses it, FTP keeps it.
LOST, KEPT = [0.82, 0.84, 0.86], [0.17, 0.19, 0.18]
# Word errors in and out of distribution: FTP has about five points fewer out of it.
PLAIN = [(0.10, 0.40), (0.11, 0.42), (0.12, 0.41)]
BETTER = [(0.10, 0.35), (0.112, 0.369), (0.119, 0.361)]


def said(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def speech(**changes):
    return with_retained(
        comparison({"plain": PLAIN, "ftp": BETTER}, metric="wer", corruptions=(), **changes),
        "speech",
        "wer",
        0.16,
        {"plain": LOST, "ftp": KEPT},
    )


def test_fewer_errors_are_a_gain():
    results = speech()
    verdict = verdicts(results)[0]
    assert [verdict.sign(kind) for kind in ("id", "ood", "retained/speech")] == [0, 1, 1]
    assert "gains on OOD, wer −5.0 points" in said(verdict.sentence)
    assert "on speech, wer −66.0 points" in said(verdict.sentence)
    assert "FTP (−5.0 points" in said(headline(results))
    assert "is better than plain fine-tuning" in said(headline(results))
    assert "On retained speech (wer, pre-trained 16.0), FTP (−66.0 points" in said(headline(results))


def test_more_errors_are_a_loss():
    results = comparison({"plain": BETTER, "ftp": PLAIN}, metric="wer", corruptions=())
    assert verdicts(results)[0].sign("ood") == -1
    assert "is worse than plain fine-tuning" in said(headline(results))
    assert "loses on OOD, wer +5.0 points" in said(verdicts(results)[0].sentence)


def test_what_is_lost_of_before_can_be_all_that_there_is_to_tell():
    results = with_retained(
        comparison({"plain": PLAIN, "ftp": PLAIN}, metric="wer", ood=(), corruptions=()),
        "speech",
        "wer",
        0.16,
        {"plain": LOST, "ftp": KEPT},
    )
    assert said(headline(results)).startswith("On retained speech (wer, pre-trained 16.0), FTP (−66.0 points")


def test_a_setting_with_fewer_errors_is_chosen():
    figures = [({"learning_rate": 1e-4}, 0.3), ({"learning_rate": 1e-3}, 0.1), ({"learning_rate": 1e-2}, float("nan"))]
    assert choose(figures, metric_named("wer")) == {"learning_rate": 1e-3}
    assert choose(figures, metric_named("accuracy")) == {"learning_rate": 1e-4}


def test_the_best_place_on_a_curve_has_the_fewest_errors():
    curve = [(0.1, 0.5), (0.3, 0.4), (0.1, 0.3)]
    assert matched_ood(curve, 0.2, min) == pytest.approx(0.35)
    assert matched_ood(curve, 0.2) == pytest.approx(0.45)
    results = comparison({"plain": PLAIN, "wise-ft": BETTER, "ftp": BETTER}, metric="wer")
    assert matched_difference(results, "ftp").mean == pytest.approx(0, abs=1e-9)


def test_tables_have_the_pre_trained_model_above_and_each_set_in_its_own_metric():
    results = with_retained(comparison(), "speech", "wer", 0.16, {"plain": LOST, "ftp": KEPT})
    results.pretrained += [Evaluation("test", "id", {"accuracy": {"0": 0.7}})]
    header, rows = means_table(results).header, means_table(results).rows
    assert dict(zip(header, rows[0], strict=True)) | {"method": "pre-trained", "ID test": "70.0"} == dict(
        zip(header, rows[0], strict=True)
    )
    table = retained_table(results)
    assert table.header == ["method", "speech (wer in %, less is better)"]
    assert [row[0] for row in table.rows] == ["pre-trained", "Plain fine-tuning", "FTP"]
    assert table.rows[0][1] == "16.0"
    assert table.rows[1][1].endswith("(+68.0)")
    assert table.rows[2][1].endswith("(+2.0)")
    assert "speech" in paired_table(results).header
    assert pretrained_figure(results, "retained/speech") == 0.16
    assert pretrained_figure(results, "ood") is None
    assert ("ftp", "retained/speech") in differences_to_plain(results)


def test_rules_are_held_against_the_pre_trained_model():
    results = speech(rules=["retained/speech <= pretrained + 0.03", "ood_mean <= 0.4"])
    rows = {row[0]: row[1:] for row in rules_table(results).rows}
    assert rows == {"Plain fine-tuning": ["0 of 3", "1 of 3", "0 of 3"], "FTP": ["3 of 3", "3 of 3", "3 of 3"]}


def test_better_is_up_to_the_right_in_all_charts(tmp_path):
    files = {file.name for file in write_report(speech(), tmp_path)}
    assert {"scatter.png", "retained.png"} <= files
    text = (tmp_path / "report.md").read_text()
    assert "wer in %, less is better;" in text
    assert "What the model could do before" in text
