import math

import pytest

from ftp_hf.common.figures import Metric, declare_metrics, main_metric, metric_named, show


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
