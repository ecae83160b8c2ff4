"""The null hypothesis that a small learning rate does as well: what counts as a fall, and what the report says of it."""

import pytest

from ftp_hf.compare.evidence.results import ComparedRun, MethodFacts
from ftp_hf.compare.evidence.small_rates import has_fallen, null_hypothesis, smallest_kept, tied, tolerance
from ftp_hf.runs.facts import DataFacts, Evaluation
from ftp_hf.runs.summary import RunSummary
from tests.support.comparisons import GAIN, PLAIN, comparison


def run(figure, rate=1e-3, *, metric="accuracy", rows=100):
    results = [] if figure is None else [Evaluation("validation", "validation", {metric: {"0": figure}})]
    data = [DataFacts("validation", "validation", rows)]
    summary = RunSummary("a run", "plain", seed=0, results=results, data=data)
    return ComparedRun("plain", {"learning_rate": rate}, 0, summary)


@pytest.mark.parametrize(
    ("figure", "metric", "rows", "allowed"),
    [
        (0.9, "accuracy", 100, 0.03),  # √(0.9 · 0.1 / 100)
        (0.2, "wer", 400, 0.02),  # √(0.2 · 0.8 / 400)
        (1.0, "accuracy", 50, 0.02),  # the standard error is nil: a row
        (1.5, "wer", 50, 0.02),
        (0.9, "accuracy", None, 0.009),
        (0.5, "matthews_correlation", 100, 0.005),
        (-0.5, "matthews_correlation", 100, 0.005),
        (3.0, "loss", 100, 0.03),
    ],
)
def test_how_much_less_has_not_fallen(figure, metric, rows, allowed):
    assert tolerance(run(figure, metric=metric, rows=rows), metric) == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("figure", "best", "metric", "fallen"),
    [
        (0.871, 0.9, "accuracy", False),
        (0.869, 0.9, "accuracy", True),
        (0.95, 0.9, "accuracy", False),
        (0.99, 1.0, "accuracy", False),
        (0.98, 1.0, "accuracy", True),
        (0.139, 0.1, "wer", True),
        (0.129, 0.1, "wer", False),
        (0.01, 0.1, "wer", False),
        (3.04, 3.0, "loss", True),
        (3.02, 3.0, "loss", False),
        (float("nan"), 0.9, "accuracy", True),
        (float("inf"), 3.0, "loss", True),
        (None, 0.9, "accuracy", True),
    ],
)
def test_what_has_fallen(figure, best, metric, fallen):
    assert has_fallen(run(figure, metric=metric), run(best, metric=metric), metric) is fallen


def test_exactly_one_row_less_has_not_fallen():
    # 0.8 − 0.7 is 0.10000000000000009, a row of ten.
    assert not has_fallen(run(0.9 - 0.1, rows=10), run(0.9, rows=10), "accuracy")


@pytest.mark.parametrize(
    ("figures", "metric", "kept"),
    [
        ([0.5, 0.88, 0.9, None], "accuracy", [0.88, 0.9]),
        ([0.5, 0.12, 0.1, None], "wer", [0.12, 0.1]),
        ([float("nan"), None], "accuracy", []),
    ],
)
def test_what_validation_does_not_tell_from_the_best_is_tied(figures, metric, kept):
    runs = {figure: run(figure, metric=metric) for figure in figures}
    assert tied(list(runs.values()), metric) == [runs[figure] for figure in kept]


def test_the_smallest_rate_that_keeps_id_validation_is_chosen():
    tried = [run(0.5, 1e-2), run(0.9, 1e-3), run(0.89, 1e-4), run(0.88, 1e-5), run(0.8, 1e-6)]
    assert smallest_kept(tried, tried[1], "accuracy") is tried[3]
    assert smallest_kept(tried[:2], tried[1], "accuracy") is tried[1]
    lost = [run(float("nan"), 1e-2), run(float("nan"), 1e-3)]
    assert smallest_kept(lost, lost[0], "accuracy") is lost[0]


def with_small_rates(figures, chosen):
    """Plain fine-tuning, whose best ID validation is 0.91 of 100 rows, and its smaller rates with these figures."""
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    results.methods.append(MethodFacts("small-lr", "small learning rate", "", {}, {"learning_rate": chosen}))
    for rate, figure in figures.items():
        small = run(figure, rate)
        small.method = "small-lr"
        results.runs.append(small)
    return results


def test_it_is_said_that_it_was_not_tested_and_how_it_would_be():
    assert null_hypothesis(comparison()) == (
        "Plain fine-tuning was not tried at learning rates below 0.0001, so that the null hypothesis, a small learning rate "
        "does as well (arXiv 2509.20758), was not tested: add small-lr to the methods."
    )
    assert null_hypothesis(comparison({"ftp": GAIN})) == ""
    assert null_hypothesis(comparison({"plain": [], "ftp": []}, seeds=[0])) == ""


def test_it_is_said_what_it_was_tested_with():
    # √(0.91 · 0.09 / 100) = 0.0286
    said = (
        "The null hypothesis, a small learning rate does as well (arXiv 2509.20758), was tested with 3.2e-05, the smallest of "
        "the rates down to 1e-05 whose ID validation is no more than 2.9\N{NO-BREAK SPACE}points worse than 91.0, the best of "
        "plain fine-tuning"
    )
    fallen = with_small_rates({1e-3: 0.91, 1e-4: 0.9, 3.2e-5: 0.89, 1e-5: 0.7}, 3.2e-5)
    assert null_hypothesis(fallen) == f"{said}."
    going_on = with_small_rates({1e-3: 0.91, 3.2e-5: 0.9}, 3.2e-5)
    assert null_hypothesis(going_on) == said.replace("1e-05", "3.2e-05") + (
        "; ID validation had not fallen by more there: with a larger small-lr: most, still smaller rates are tried."
    )
