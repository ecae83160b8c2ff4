"""What a learning rate costs: figures at rates that were not chosen, by hand."""

import copy
import dataclasses

import pytest

from ftp_hf.compare.evidence.measures import by_seed
from ftp_hf.compare.evidence.rates import at_lengths, at_rates, safe_rates, unwarned, what_is_safe
from ftp_hf.compare.evidence.rules import meets_rules
from ftp_hf.compare.report.rates import draw_rates
from ftp_hf.compare.report.tables import rates_table
from tests.support.comparisons import GAIN, PLAIN, comparison, with_epochs, with_retained


def at_every_rate(**changes):
    """Chosen at 1e-3; at 1e-2 plain fine-tuning loses 20 points ID and 30 OOD, FTP nothing; what is retained likewise."""
    results = with_retained(
        comparison({"plain": PLAIN, "ftp": GAIN}, corruptions=(), **changes),
        "speech", "wer", 0.10, {"plain": [0.30, 0.40, 0.50], "ftp": [0.11, 0.12, 0.13]},
    )  # fmt: skip
    for method, loss in (("plain", {"id": 0.2, "ood": 0.3, "retained": -0.5}), ("ftp", {})):
        for run in results.chosen_runs(method):
            moved = copy.deepcopy(run)
            moved.setting = {"learning_rate": 1e-2}
            for result in moved.summary.results:
                for values in result.metrics.values():
                    values[str(run.seed)] -= loss.get(result.kind, 0.0)
            results.runs = [other for other in results.runs if (other.setting, other.seed) != (moved.setting, run.seed)
                            or other.method != method]  # fmt: skip
            results.runs.append(moved)
    return results


def test_figures_at_each_rate():
    at = at_rates(at_every_rate())
    assert list(at) == [1e-3, 1e-2]
    assert by_seed(at[1e-2], "plain", "id") == pytest.approx({0: 0.70, 1: 0.71, 2: 0.72})
    assert by_seed(at[1e-2], "plain", "ood") == pytest.approx({0: 0.30, 1: 0.32, 2: 0.31})
    assert by_seed(at[1e-2], "plain", "retained/speech") == pytest.approx({0: 0.80, 1: 0.90, 2: 1.00})
    assert by_seed(at[1e-2], "ftp", "ood") == by_seed(at[1e-3], "ftp", "ood")


def test_the_table_has_a_row_for_each_rate_and_counts_rules():
    results = at_every_rate(rules=["ood_mean >= 0.5", "retained/speech:wer <= pretrained + 0.25"])
    table = rates_table(results)
    assert table.header == ["method", "learning rate", "ID test", "OOD mean", "retained/speech", "rules met"]
    assert [tuple(cell.replace("\xa0", " ") for cell in row) for row in table.rows] == [
        ("Plain fine-tuning", "0.001", "91.0 ± 1.0", "61.0 ± 1.0", "40.0 ± 10.0", "1 of 3"),
        ("Plain fine-tuning", "0.01", "71.0 ± 1.0", "31.0 ± 1.0", "90.0 ± 10.0", "0 of 3"),
        ("FTP", "0.001", "91.0 ± 0.9", "63.0 ± 1.1", "12.0 ± 1.0", "3 of 3"),
        ("FTP", "0.01", "91.0 ± 0.9", "63.0 ± 1.1", "12.0 ± 1.0", "3 of 3"),
    ]
    there = at_rates(results)[1e-3]
    assert [meets_rules(there, run) for run in there.chosen_runs("plain")].count(True) == 1


def test_a_column_says_after_which_epochs_weights_are_kept():
    table = rates_table(with_epochs(at_every_rate(), [1, 3, 2]))
    assert [row[table.header.index("kept after epoch")] for row in table.rows] == ["1–3"] * 4
    assert "kept after epoch" not in rates_table(with_epochs(at_every_rate(), [20, 20, 20])).header


def test_at_which_rates_nothing_is_lost_and_what_id_validation_does_not_tell():
    results = at_every_rate(rules=["retained/speech:wer <= pretrained + 0.45"])
    assert safe_rates(results) == {"Plain fine-tuning": [1e-3], "FTP": [1e-3, 1e-2]}
    assert unwarned(results) == (3, 12), "ID validation is the same at both rates"
    small = dataclasses.replace(results.methods[0], name="small-lr", title="Small learning rate")
    again = [dataclasses.replace(run, method="small-lr") for run in results.runs if run.method == "plain"]
    both = dataclasses.replace(results, methods=[*results.methods, small], runs=[*results.runs, *again])
    assert unwarned(both) == (3, 12), "its runs are those of plain fine-tuning, which are not counted twice"
    assert what_is_safe(results) == (
        "Rates at which every seed meets all rules: Plain fine-tuning, 0.001; FTP, 0.001, 0.01. Of the 12 runs that ID "
        "validation does not tell from the best of their method and seed, 3 break a rule: it does not warn of that, but a "
        "guard with these rules does."
    )
    for run in results.runs:
        if run.method == "plain" and run.setting == {"learning_rate": 1e-2}:
            (validation,) = run.summary.of_kind("validation")
            validation.metrics["accuracy"][str(run.seed)] -= 0.3
    assert unwarned(results) == (0, 9), "now it warns"
    assert what_is_safe(results).endswith("their method and seed, none breaks a rule.")
    for run in results.runs:
        if run.method == "plain" and run.setting == {"learning_rate": 1e-2}:
            run.summary.of_kind("validation")[0].metrics["accuracy"][str(run.seed)] = float("nan")
    assert unwarned(results) == (0, 9), "a run that has diverged is no best one"


def test_a_rate_that_a_method_was_not_evaluated_at_is_not_safe():
    results = at_every_rate(rules=["retained/speech:wer <= pretrained + 0.45"])
    for run in results.runs:
        if run.method == "ftp" and run.setting == {"learning_rate": 1e-2}:
            run.setting = {"learning_rate": 1e-1}
    assert list(at_rates(results)) == [1e-3, 1e-2, 1e-1]
    assert safe_rates(results) == {"Plain fine-tuning": [1e-3], "FTP": [1e-3, 1e-1]}


def test_a_method_at_one_rate_chose_nothing_and_is_not_counted():
    results = at_every_rate(rules=["retained/speech:wer <= pretrained + 0.45"])
    results.runs = [run for run in results.runs if run.method == "plain" or run.setting == {"learning_rate": 1e-3}]
    assert safe_rates(results) == {"Plain fine-tuning": [1e-3]}
    assert unwarned(results) == (3, 6)


def test_the_chart_has_a_panel_for_each_kind_and_less_is_better_points_up():
    axes = draw_rates(at_every_rate()).axes
    assert [each.get_title(loc="left") for each in axes] == [
        "ID: accuracy (%)",
        "OOD mean: accuracy (%)",
        "speech: wer (%)",
    ]
    assert [each.yaxis_inverted() for each in axes] == [False, False, True]
    drawn = axes[2].lines[0]
    assert list(drawn.get_xdata()) == [1e-3, 1e-2]
    assert list(drawn.get_ydata()) == pytest.approx([40.0, 90.0])


@pytest.fixture
def at_every_length():
    """As [`at_every_rate`], for 1 epoch; for 3 all of plain fine-tuning loses 10 points in retained speech more."""
    results = at_every_rate(rules=["retained/speech:wer <= pretrained + 0.45"])
    longer = copy.deepcopy(results.runs)
    for run in longer:
        for result in run.summary.of_kind("retained") if run.method == "plain" else ():
            result.metrics["wer"][str(run.seed)] += 0.1
    for epochs, runs in ((1, results.runs), (3, longer)):
        for run in runs:
            run.setting = {**run.setting, "num_train_epochs": epochs}
    for method in results.methods:
        method.chosen = {**method.chosen, "num_train_epochs": 1}
    return dataclasses.replace(results, runs=[*results.runs, *longer])


def test_each_length_has_its_rates(at_every_length):
    assert list(at_lengths(at_every_length)) == [1, 3]
    longer = at_rates(at_lengths(at_every_length)[3])
    assert list(longer) == [1e-3, 1e-2]
    assert by_seed(longer[1e-2], "plain", "retained/speech") == pytest.approx({0: 0.90, 1: 1.00, 2: 1.10})
    table = rates_table(at_every_length)
    assert table.header[:3] == ["method", "epochs", "learning rate"]
    assert [tuple(map(str, row[:3])) for row in table.rows[:4]] == [
        ("Plain fine-tuning", "1", "0.001"),
        ("Plain fine-tuning", "1", "0.01"),
        ("Plain fine-tuning", "3", "0.001"),
        ("Plain fine-tuning", "3", "0.01"),
    ]
    assert unwarned(at_every_length) == (7, 24)
    assert what_is_safe(at_every_length).startswith(
        "Rates at which every seed meets all rules: Plain fine-tuning at 1 epoch, 0.001; Plain fine-tuning at 3 epochs, none; "
        "FTP at 1 epoch, 0.001, 0.01; FTP at 3 epochs, 0.001, 0.01. Of the 24 runs"
    )


def test_a_method_with_one_rate_at_a_length_is_there_too(at_every_length):
    def is_kept(run):
        return run.method == "plain" or run.setting == {"learning_rate": 1e-2, "num_train_epochs": 3}

    runs = [run for run in at_every_length.runs if is_kept(run)]
    results = dataclasses.replace(at_every_length, runs=runs)
    results.method("ftp").chosen = {"learning_rate": 1e-2, "num_train_epochs": 3}
    assert [tuple(map(str, row[:3])) for row in rates_table(results).rows][-1] == ("FTP", "3", "0.01")
    drawn = draw_rates(results).axes[1]
    assert [list(line.get_xdata()) for line in drawn.lines if line.get_linestyle() == "-"] == [[1e-3, 1e-2], [1e-2]]


def test_lengths_at_one_rate_are_told_of(at_every_length):
    at_one_rate = [run for run in at_every_length.runs if run.setting["learning_rate"] == 1e-3]
    results = dataclasses.replace(at_every_length, runs=at_one_rate)
    assert [tuple(map(str, row[1:3])) for row in rates_table(results).rows] == [("1", "0.001"), ("3", "0.001")] * 2
    assert unwarned(results) == (1, 12), "0.6 of plain fine-tuning after 3 epochs is above 0.55"
    assert len(draw_rates(results).axes) == 6


def test_each_length_is_a_column_of_the_chart(at_every_length):
    axes = draw_rates(at_every_length).axes
    assert [each.get_title(loc="left") for each in axes] == ["1 epoch", "3 epochs", *[""] * 4]
    assert [each.get_ylabel() for each in axes[::2]] == [
        "ID: accuracy (%)",
        "OOD mean: accuracy (%)",
        "speech: wer (%)",
    ]
    assert [each.yaxis_inverted() for each in axes] == [False] * 4 + [True] * 2
    assert list(axes[5].lines[0].get_ydata()) == pytest.approx([50.0, 100.0])


def test_one_length_is_none():
    results = at_every_rate()
    assert at_lengths(results) == {None: results}


def test_nothing_is_told_of_rates_that_were_only_chosen_among():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    results.method("ftp").chosen = {"learning_rate": 1e-2}  # the methods differ in their rates, each has one
    assert at_rates(results) == {}
    assert rates_table(results).rows == []
    assert draw_rates(results) is None
    assert what_is_safe(results) == ""
