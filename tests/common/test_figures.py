import math
import re

import pytest

from ftp_hf.common.figures import Metric, check_possible, declare_metrics, main_metric, metric_named, show


@pytest.mark.parametrize(
    ("name", "sign", "is_share", "possible"),
    [
        ("accuracy", 1, True, (0, 1)),
        ("balanced_accuracy", 1, True, (0, 1)),
        ("f1_macro", 1, True, (0, 1)),
        ("wer", -1, True, (0, math.inf)),
        ("loss", -1, False, (0, math.inf)),
        ("kl", -1, False, (0, math.inf)),
        ("spearman", 1, False, (-1, 1)),
        ("bleu", 1, False, (-math.inf, math.inf)),
    ],
)
def test_what_is_known_of_metrics(name, sign, is_share, possible):
    metric = metric_named(name)
    assert (metric.sign, metric.is_share, metric.possible) == (sign, is_share, possible)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "accuracy",
            87.0,
            "accuracy is 87, but has to be at least 0 and at most 1: it is a share of 1, so return 0.87 if this is in percent",
        ),
        ("accuracy", -0.5, "accuracy is -0.5, but has to be at least 0 and at most 1: correct what computes it"),
        ("loss", -0.5, "loss is -0.5, but has to be at least 0: correct what computes it, or declare what it is"),
        ("spearman", 1 + 1e-9, None),
        ("wer", 12.4, None),
        ("accuracy", float("nan"), None),
        ("loss", float("inf"), None),
    ],
)
def test_figures_that_cannot_be_are_refused(name, value, said):
    if said is None:
        check_possible({name: value}, "FTP, seed 0")
        return
    with pytest.raises(ValueError, match=re.escape(f"FTP, seed 0: {said}")):
        check_possible({name: value}, "FTP, seed 0")


def test_metrics_of_a_task_are_declared_once():
    declared = Metric("surprise_of_this_test", less_is_better=True, is_share=True)
    declare_metrics([declared, Metric("accuracy", is_share=True)])
    declare_metrics([declared])
    assert metric_named("surprise_of_this_test") == declared
    assert show(0.25, "surprise_of_this_test") == "25.0"
    with pytest.raises(ValueError, match="is declared as"):
        declare_metrics([Metric("surprise_of_this_test")])
    with pytest.raises(ValueError, match="the metric 'wer' is declared"):
        declare_metrics([Metric("wer")])
    with pytest.raises(ValueError, match="the metric 'accuracy' is declared"):
        declare_metrics([Metric("accuracy", less_is_better=True)])


def test_the_metric_to_go_by_is_none_that_stands_beside_another():
    assert main_metric(["loss", "kl", "wer"]) == "wer"
    assert main_metric(["kl", "loss"]) == "kl"
    assert main_metric(["loss", "f1", "accuracy"]) == "accuracy"
    assert main_metric([]) is None
