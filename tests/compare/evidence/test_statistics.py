import math

import pytest

from ftp_hf.compare.evidence.differences import against_plain, cost, matched_difference, relative_to_plain, wise_curve
from ftp_hf.compare.evidence.measures import (
    by_seed,
    check_same_data,
    data_sets,
    finished_seeds,
    inert_corruptions,
    pretrained_figure,
    radii,
    robust_kind,
    severity_curve,
)
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.compare.evidence.statistics import matched_ood, paired_difference, pareto_front, relative_change
from ftp_hf.compare.evidence.verdict import verdicts
from ftp_hf.runs.corrupted import inert_among
from ftp_hf.runs.facts import Evaluation
from tests.support.comparisons import GAIN, LOSS, PLAIN, TIE, comparison, with_inert

PLAIN_BY_SEED = {0: 0.7, 1: 0.75, 2: 0.8}


def test_paired_difference_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, error 1/√3; Student's t with 2 degrees of freedom is 4.302653.
    found = paired_difference({0: 2, 1: 4, 2: 6, 9: 100}, {0: 1, 1: 2, 2: 3, 8: 100})
    assert found.by_seed == {0: 1, 1: 2, 2: 3}
    half = 4.302653 / math.sqrt(3)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half))
    assert not found.is_clear
    assert found.bound == found.high
    # t is 2√3; with 2 degrees of freedom p is 1 − t / √(t² + 2).
    assert found.p_value == pytest.approx(1 - math.sqrt(12 / 14))


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_no_interval(seeds):
    found = paired_difference(dict.fromkeys(range(seeds), 0.9), {0: 0.8, 1: 0.801})
    assert (found.low, found.high, found.p_value) == (-math.inf, math.inf, 1.0)
    assert not found.is_known
    assert not found.is_clear
    assert paired_difference({0: 0.9}, {1: 0.8}) is None


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_seed_that_diverged_leaves_no_interval(figure):
    for values, reference in (
        ({0: figure, 1: 0.8, 2: 0.9}, PLAIN_BY_SEED),
        (PLAIN_BY_SEED, {0: figure, 1: 0.8, 2: 0.9}),
    ):
        found = paired_difference(values, reference)
        assert math.isnan(found.mean)
        assert not found.is_known
        assert not found.is_clear


def test_seeds_that_happen_to_agree_say_nothing():
    # 0.3 - 0.1 and 0.4 - 0.2 differ in the last digit of floating-point numbers.
    found = paired_difference({0: 0.3, 1: 0.4, 2: 0.5}, {0: 0.1, 1: 0.2, 2: 0.3})
    assert found.low == found.high == pytest.approx(0.2)
    assert not found.is_clear


def test_relative_change():
    assert relative_change(0.66, 0.6) == pytest.approx(10)
    assert math.isnan(relative_change(0.5, 0.0))


def test_pareto_front():
    points = {"a": (1, 5), "b": (3, 3), "c": (2, 2), "d": (4, 1), "e": (3, 3)}
    assert pareto_front(points) == ["a", "b", "e", "d"]


@pytest.mark.parametrize(
    ("accuracy", "ood"), [(0.8, 0.7), (0.85, 0.65), (0.875, 0.625), (0.9, 0.6), (0.79, None), (0.91, None)]
)
def test_matched_ood_is_linear_between_the_points(accuracy, ood):
    found = matched_ood([(0.8, 0.7), (0.9, 0.6)], accuracy)
    assert found == (None if ood is None else pytest.approx(ood))


def test_matched_ood_is_the_best_where_the_curve_turns():
    assert matched_ood([(0.8, 0.7), (0.92, 0.64), (0.88, 0.5)], 0.9) == pytest.approx(0.65)


def test_figures_by_seed_are_means_over_data_sets():
    results = comparison()
    assert by_seed(results, "plain", "ood") == pytest.approx({0: 0.60, 1: 0.62, 2: 0.61})
    assert by_seed(results, "plain", "validation") == pytest.approx({0: 0.91, 1: 0.92, 2: 0.93})
    # Fog takes 0.01 and noise 0.02 per severity, of which the mean is 3.
    assert by_seed(results, "plain", "corrupted") == pytest.approx({0: 0.855, 1: 0.865, 2: 0.875})
    assert by_seed(results, "plain", "corrupted", prefix="fog/") == pytest.approx({0: 0.87, 1: 0.88, 2: 0.89})
    assert by_seed(results, "tpgm", "id") == {}
    assert data_sets(results, "ood") == ["sketch", "cartoon"]
    identity = (0.90, 0.91, 0.92)
    curve, noise = severity_curve(results, "plain"), severity_curve(results, "plain", "noise")
    for severity in range(1, 6):
        assert curve[severity] == pytest.approx([value - 0.015 * severity for value in identity])
        assert noise[severity] == pytest.approx([value - 0.02 * severity for value in identity])


def test_a_corruption_that_changes_nothing_is_left_out_of_the_means():
    results = comparison({"plain": PLAIN, "ftp": GAIN}, corruptions=("fog", "random_casing"))
    assert inert_corruptions(results) == []
    with_inert(results)
    assert inert_corruptions(results) == ["random_casing"]
    assert by_seed(results, "plain", "corrupted") == pytest.approx({0: 0.87, 1: 0.88, 2: 0.89})
    assert severity_curve(results, "plain")[5] == pytest.approx([0.85, 0.86, 0.87])
    assert by_seed(results, "plain", "corrupted", prefix="random_casing/") == {0: 0.9, 1: 0.9, 2: 0.9}
    run = results.chosen_runs("plain")[0]
    left_out = inert_among([run.summary.results])
    assert left_out == ["random_casing"], "one run tells as well, in what is printed of it"
    assert run.value("corrupted", "accuracy", left_out=left_out) == pytest.approx(0.87)
    assert run.value("train", "accuracy") is None
    for result in results.chosen_runs("ftp")[0].summary.of_kind("corrupted"):
        result.metrics["loss"] = {"0": math.nan}
    assert inert_corruptions(results) == ["random_casing"], "a model that diverged says nothing of them"
    # The same accuracy by chance, but not the same answers.
    run.summary.of_kind("corrupted")[-1].metrics["loss"] = {"0": 0.31}
    assert inert_corruptions(results) == []


def test_differences_to_plain():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    found = against_plain(results, "ftp", "ood")
    assert found.by_seed == pytest.approx({0: 0.019, 1: 0.020, 2: 0.021})
    half = 4.302653 * 0.001 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert relative_to_plain(results, "ftp", "ood") == pytest.approx(100 * 0.02 / 0.61)
    assert relative_to_plain(comparison({"ftp": GAIN}), "ftp", "ood") is None


def test_matched_difference_is_taken_from_the_curve_of_the_same_seed():
    # The curve of seed 0 goes through (0.82, 0.64), (0.86, 0.63) and plain fine-tuning's (0.9, 0.6).
    wise = [(0.86, 0.63), (0.87, 0.65), (0.88, 0.64)]
    results = comparison({"plain": PLAIN, "wise-ft": wise, "l2-sp": [(0.88, 0.625), (0.95, 0.7), (0.90, 0.62)]})
    assert wise_curve(results, 0) == [pytest.approx(point) for point in [(0.82, 0.64), (0.86, 0.63), (0.90, 0.60)]]
    found = matched_difference(results, "l2-sp")
    # On the curves 0.615 and 0.625; seed 1 is beyond its end.
    assert found.by_seed == pytest.approx({0: 0.010, 2: -0.005})
    assert matched_difference(comparison({"plain": PLAIN, "ftp": GAIN}), "ftp") is None


def test_the_interval_of_a_matched_difference_ends_where_figures_do():
    # At plain fine-tuning's ID the curve is at 0.95, 0.97 and 0.96: no method can be more than 0.04 above it.
    figures = {
        "plain": [(0.90, 0.95), (0.91, 0.97), (0.92, 0.96)],
        "wise-ft": [(0.86, 0.96), (0.87, 0.98), (0.88, 0.97)],
        "ftp": [(0.90, 0.80), (0.91, 1.0), (0.92, 0.99)],
    }
    results = comparison(figures, ood=("sketch",))
    results.runs = [run for run in results.runs if run.setting.get("alpha") != 0]  # which would be above 1
    found = matched_difference(results, "ftp")
    assert found.by_seed == pytest.approx({0: -0.15, 1: 0.03, 2: 0.03})
    assert found.high == pytest.approx(0.04)


def test_plain_fine_tuning_ends_the_curve():
    results = comparison({"plain": PLAIN, "wise-ft": [(0.86, 0.63)] * 3})
    results.runs = [run for run in results.runs if run.setting.get("alpha") != 1]
    assert wise_curve(results, 0)[-1] == pytest.approx((0.90, 0.60))


def test_costs_are_compared_on_the_same_device():
    results = comparison({"plain": PLAIN, "ftp": GAIN, "tpgm": TIE})
    assert cost(results, "ftp", "seconds_per_step").mean == pytest.approx(0.52 * 1.01)
    assert cost(results, "ftp", "seconds_per_step").ratio == pytest.approx(1.04)
    assert cost(results, "tpgm", "peak_memory_bytes").ratio == pytest.approx(1.5)
    assert cost(results, "ftp", "peak_memory_bytes").ratio is None, "it takes the same"
    for run in results.chosen_runs("ftp"):
        run.summary.hardware.device = "GPU"
    assert cost(results, "ftp", "seconds_per_step").ratio is None
    for run in results.chosen_runs("tpgm"):
        run.summary.hardware.processes = 2
    assert cost(results, "tpgm", "seconds_per_step").ratio is None, "nor on another number of processes"
    for run in results.chosen_runs("tpgm"):
        run.summary.hardware = None
    assert cost(results, "tpgm", "seconds_per_step") is None


def test_peak_memory_of_one_process_is_not_compared():
    results = comparison({"plain": PLAIN, "tpgm": TIE})
    for run in results.runs:
        run.summary.hardware.device = "CPU (of some kind), 1 thread"
    assert cost(results, "tpgm", "peak_memory_bytes").ratio is None
    assert cost(results, "tpgm", "seconds_per_step").ratio == pytest.approx(2)


def test_a_busy_machine_is_not_the_method():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    # Plain fine-tuning takes 0.5, 0.505 and 0.51 s: the differences are 0.02, 0.0202 and 0.3.
    results.chosen_runs("ftp")[2].summary.hardware.seconds_per_step = 0.81
    assert cost(results, "ftp", "seconds_per_step").ratio is None
    assert "time per step" not in verdicts(results)[0].sentence


def test_radii_are_medians_over_the_seeds():
    # 0.01 · 2, 0.01 · 3 and 0.01 · 4 for the second parameter; the fourth powers for the fifth, whose mean is 1.18.
    found = radii(comparison(), "ftp")
    assert found["encoder.layer.0.output.dense.bias"] == pytest.approx(0.03)
    assert found["encoder.layer.2.query.weight"] == pytest.approx(0.81)
    assert radii(comparison(), "plain") == {}


def test_unfinished_methods_have_the_seeds_that_they_have():
    results = comparison({"plain": PLAIN, "ftp": GAIN[:2], "spd": []})
    assert finished_seeds(results, "ftp") == [0, 1]
    assert finished_seeds(results, "spd") == []
    assert len(against_plain(results, "ftp", "id").by_seed) == 2
    assert against_plain(results, "spd", "id") is None


@pytest.mark.parametrize(
    ("sets", "kind"), [({}, "ood"), ({"ood": ()}, "corrupted"), ({"ood": (), "corruptions": ()}, None)]
)
def test_what_robustness_is_judged_by(sets, kind):
    assert robust_kind(comparison({"plain": PLAIN, "ftp": LOSS}, **sets)) == kind


def test_figures_of_different_data_are_refused():
    results = comparison()
    check_same_data(results)
    run = results.chosen_runs("ftp")[1]
    next(data for data in run.summary.data if data.name == "sketch").size = 201
    with pytest.raises(
        ValueError, match=r"the ftp run of seed 1 was evaluated on the ood data .*201.* cannot be compared"
    ):
        check_same_data(results)
    run.summary.results = [result for result in run.summary.results if result.data != "sketch"]
    with pytest.raises(ValueError, match="cannot be compared"):
        check_same_data(results)


def test_results_round_trip(tmp_path):
    results = comparison({"plain": PLAIN, "wise-ft": GAIN, "ftp": GAIN})
    results.save(tmp_path)
    assert ComparisonResults.load(tmp_path) == results


def test_nothing_is_a_percentage_of_a_figure_that_is_not_above_zero():
    results = comparison({"plain": [(0.7, -0.05)] * 3, "ftp": [(0.7, 0.31)] * 3}, metric="spearman")
    assert relative_to_plain(results, "ftp", "ood") is None
    assert relative_to_plain(results, "ftp", "id") == pytest.approx(0)


def test_the_pretrained_model_is_measured_on_what_the_methods_are():
    results = with_inert(comparison({"plain": PLAIN, "ftp": GAIN}, corruptions=("fog", "random_casing")))
    before = {"fog": 0.6, "random_casing": 0.95}
    results.pretrained = [
        Evaluation(result.data, "corrupted", {"accuracy": {"0": before[result.data.rpartition("/")[0]]}})
        for result in results.chosen_runs("plain")[0].summary.of_kind("corrupted")
    ]
    assert pretrained_figure(results, "corrupted") == pytest.approx(0.6)
    sketch, cartoon = (Evaluation(name, "ood", {"accuracy": {"0": 0.5}}) for name in ("sketch", "cartoon"))
    results.pretrained = [sketch, cartoon]
    assert pretrained_figure(results, "ood") == pytest.approx(0.5)
    cartoon.metrics = {"loss": {"0": 1.0}}
    assert pretrained_figure(results, "ood") is None, "the mean of one set is not that of both"
