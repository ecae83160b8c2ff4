"""The section of the report that leads to the weights."""

import math

from ftp_hf.compare.report.weights import weights
from ftp_hf.compare.report.write import report_texts
from tests.support.comparisons import GAIN, PLAIN, comparison, with_retained


def kept(figures, **changes):
    results = comparison(figures, **changes)
    for method in results.methods:
        for run in results.chosen_runs(method.name):
            run.folder = f"runs/{run.method}-seed{run.seed}"
    return results


def test_the_recommended_run_is_named_with_the_commands_and_every_other_folder():
    said, code, table, _ = weights(kept({"plain": PLAIN, "ftp": GAIN}, rules=["id/test >= 0.9"]))
    assert said.text.startswith("Recommended is FTP, learning_rate 0.001, seed 2, in runs/ftp-seed2, ")
    assert code.text.splitlines() == [
        "ftp-hf check runs/ftp-seed2 --rules rules.yaml",
        "ftp-hf push runs/ftp-seed2 USER/NAME --rules rules.yaml",
    ]
    folders = [row[3] for row in table.rows]
    assert folders == [f"runs/{method}-seed{seed}" for method in ("plain", "ftp") for seed in range(3)]
    assert [type(row[3]).__name__ for row in table.rows] == [*["str"] * 5, "Strong"]
    assert table.rows[5] == ["FTP", "2", "92.9", "runs/ftp-seed2", "learning_rate 0.001"]


def test_without_a_recommendation_it_is_said_and_why():
    said, code, _, _ = weights(kept({"plain": PLAIN[:1], "ftp": GAIN[:1]}))
    assert said.text.startswith("No run is recommended: that takes a method that is clearly better than plain")
    assert code.text.splitlines() == ["ftp-hf check RUN --rules RULES.yaml", "ftp-hf push RUN USER/NAME"]


def test_a_method_that_diverged_is_not_recommended():
    lost, whole = [9.1, 9.1, math.inf], [9.1, 9.1, 9.2]
    figures = {"plain": PLAIN, "ftp": GAIN}
    said, *_ = weights(with_retained(kept(figures), "web", "perplexity", 9.0, {"plain": whole, "ftp": lost}))
    assert said.text.startswith("No run is recommended: ")
    assert "diverged in no seed" in said.text
    said, *_ = weights(with_retained(kept(figures), "web", "perplexity", 9.0, {"plain": lost, "ftp": whole}))
    assert said.text.startswith("Recommended is FTP, "), "it gains OOD, and only plain fine-tuning diverged"


def test_both_forms_have_the_section():
    results = kept({"plain": PLAIN, "ftp": GAIN})
    for text in report_texts(results, {}).values():
        assert "The weights" in text
        assert "ftp-hf push runs/ftp-seed2 USER/NAME" in text


def test_a_comparison_without_weights_has_no_such_section():
    assert weights(comparison()) == []
