"""No claim that an unfair sweep, a collapsed reference, too few seeds or many comparisons make by themselves."""

import dataclasses

import pytest

from ftp_hf.common.figures import metric_named
from ftp_hf.compare.evidence.differences import differences_to_plain, matched_differences
from ftp_hf.compare.evidence.measures import chance
from ftp_hf.compare.evidence.statistics import PairedDifference, holm, paired_difference
from ftp_hf.compare.evidence.tuning import choose, tied_with_chosen
from ftp_hf.compare.evidence.verdict import headline, verdicts
from ftp_hf.compare.report.tables import paired_table
from tests.support.comparisons import GAIN, LOSS, PLAIN, TIE, comparison


def said(results):
    return headline(results).replace("\N{NO-BREAK SPACE}", " ")


def with_sweep(results, method, setting="learning_rate", *, tried, chosen):
    facts = results.method(method)
    facts.sweep, facts.chosen = facts.sweep | {setting: tried}, facts.chosen | {setting: chosen}
    for run in results.runs:
        if run.method == method and run.setting["learning_rate"] == 1e-3:
            run.setting = dict(facts.chosen)
    return results


def test_a_single_learning_rate_stands_in_the_headline():
    results = with_sweep(comparison({"plain": PLAIN, "ftp": GAIN}), "plain", tried=[1e-3], chosen=1e-3)
    assert said(results) == (
        "Out of distribution, FTP (+2.0 points [+1.8, +2.2]) is above plain fine-tuning. But a single learning rate was tried "
        "for Plain fine-tuning (learning_rate 0.001): other settings may change this."
    )


def test_a_value_at_the_edge_of_its_grid_stands_in_the_headline():
    results = comparison({"plain": PLAIN, "tpgm": TIE, "ftp": GAIN})
    with_sweep(results, "tpgm", tried=[1e-4, 1e-3], chosen=1e-3)
    assert "But" not in said(results), "no claim is made of TPGM"
    with_sweep(results, "ftp", tried=[1e-4, 1e-3], chosen=1e-3)
    assert said(results).endswith(
        "But FTP (learning_rate 0.001) did best at the edge of what was tried: other settings may change this."
    )
    ties = with_sweep(comparison({"plain": PLAIN, "tpgm": TIE}), "tpgm", tried=[1e-4, 1e-3], chosen=1e-3)
    assert said(ties).endswith(
        "But TPGM (learning_rate 0.001) did best at the edge of what was tried: other settings may change this."
    )


def test_many_open_sweeps_are_counted():
    results = comparison({"plain": PLAIN, "l2-sp": GAIN, "tpgm": GAIN, "spd": LOSS, "ftp": GAIN})
    for method in ("plain", "l2-sp", "tpgm", "ftp"):
        with_sweep(results, method, tried=[1e-4, 1e-3], chosen=1e-3)
    assert "But Plain fine-tuning and 3 others did best at the edge" in said(results)


def test_what_has_nothing_beyond_it_is_no_edge():
    results = comparison({"plain": PLAIN, "wise-ft": GAIN, "ftp": GAIN})
    with_sweep(results, "ftp", "kappa", tried=[0.0, 0.5, 1.0], chosen=1.0)
    with_sweep(results, "ftp", "radius_lr", tried=[0.01], chosen=0.01)
    assert "But" not in said(results)


@pytest.mark.parametrize("upwards", [True, False])
def test_of_settings_that_tie_the_smallest_rate_is_chosen_however_they_are_listed(upwards):
    tried = [({"learning_rate": rate, "alpha": alpha}, 0.0) for rate in (1e-5, 1e-4, 1e-3) for alpha in (0.1, 1.0)]
    listed = [*(tried if upwards else reversed(tried)), ({"learning_rate": 1e-6, "alpha": 0.1}, 0.01)]
    first = {"learning_rate": 1e-5, "alpha": 0.1 if upwards else 1.0}
    assert choose(listed, metric_named("wer")) == first
    assert choose([({"alpha": alpha}, 1.0) for alpha in (0.5, 0.1)], metric_named("accuracy")) == {"alpha": 0.5}


def test_ties_with_the_chosen_setting_are_exact_and_the_best():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    facts = results.method("ftp")
    assert tied_with_chosen(results, facts) == []
    facts.chosen = {"learning_rate": 1e-2}
    assert tied_with_chosen(results, facts) == [], "both are a tenth below the best"
    results.runs = [run for run in results.runs if run.setting != {"learning_rate": 1e-3}]
    assert tied_with_chosen(results, facts) == [{"learning_rate": 1e-4}]


def test_a_reference_that_has_collapsed_is_no_reference():
    results = comparison({"plain": [(0.16, 0.15), (0.14, 0.15), (0.15, 0.16)], "ftp": GAIN})
    assert "above" in said(results), "the classes are not known"
    for run in results.runs:
        run.summary.labels = [str(label) for label in range(7)]
    assert said(results) == (
        "Plain fine-tuning has not learned the task: ID 15.0, where guessing gives 14.3. Nothing can be concluded from "
        "differences to it; sweep its learning rate."
    )
    assert chance(results) == pytest.approx(1 / 7)
    assert chance(dataclasses.replace(results, metric="f1")) is None


def test_a_reference_that_gets_nothing_right_is_no_reference():
    nothing, little = ({"plain": [(figure, 0.2)] * 3, "ftp": GAIN} for figure in (0.0, 0.1))
    assert said(comparison(nothing, corruptions=(), metric="f1")) == (
        "Plain fine-tuning has not learned the task: ID 0.0, nothing that it predicts is right. Nothing can be concluded from "
        "differences to it; sweep its learning rate."
    )
    assert "above plain fine-tuning" in said(comparison(little, corruptions=(), metric="f1"))
    assert "not learned" not in said(comparison(nothing, corruptions=(), metric="spearman")), "0 is no end of it"
    assert "not learned" not in said(comparison(nothing, corruptions=(), metric="wer")), "0 is the best"


def test_seeds_are_counted_on_each_kind_of_data():
    results = comparison({"plain": PLAIN, "ftp": TIE}, corruptions=())
    (last,) = (run for run in results.chosen_runs("ftp") if run.seed == 2)
    last.summary.results = [result for result in last.summary.results if result.kind != "ood"]
    assert said(results) == "Out of distribution, two seeds: nothing can be concluded."
    (verdict,) = verdicts(results)
    assert (verdict.seeds, verdict.seeds_on("id"), verdict.seeds_on("ood"), verdict.seeds_on("corrupted")) == (
        3,
        3,
        2,
        0,
    )
    assert verdict.sentence.replace("\N{NO-BREAK SPACE}", " ").startswith(
        "3 seeds do not separate FTP from plain fine-tuning: ID 0.0 [−7.5, +7.5], OOD +0.5 (2 seeds)"
    )
    assert paired_table(results).rows[0][-1] == "2–3"
    both = comparison({"plain": PLAIN, "ftp": TIE, "tpgm": TIE}, corruptions=())
    both.runs = [last if (run.method, run.seed) == ("ftp", 2) else run for run in both.runs]
    assert said(both).startswith("Out of distribution, 2 to 3 seeds do not separate any of the 2 other methods")


def test_two_seeds_conclude_nothing():
    results = comparison({"plain": PLAIN[:2], "ftp": GAIN[:2]}, corruptions=())
    assert said(results) == "Two seeds: nothing can be concluded from this comparison."
    assert verdicts(results)[0].sentence == "Two seeds: nothing can be concluded about FTP (ID +0.1, OOD +1.9)."


def test_shares_in_percent_are_refused_not_compared():
    percent = [(100 * identity, 100 * ood) for identity, ood in PLAIN]
    results = comparison({"plain": percent, "ftp": percent}, ood=("sketch",), corruptions=())
    with pytest.raises(
        ValueError, match=r"plain-seed0, id data 'test': accuracy is 90, .* so return 0\.9 if this is in percent"
    ):
        headline(results)


def test_intervals_end_where_figures_do():
    # Mean +0.02 ± 0.0497 to references of 0.96 on average: no method can be more than 0.04 better.
    values, reference = {0: 0.96, 1: 0.98, 2: 1.0}, {0: 0.96, 1: 0.96, 2: 0.96}
    found = paired_difference(values, reference, (0.0, 1.0))
    assert (found.low, found.high) == pytest.approx((-0.0296828, 0.04), abs=1e-6)
    assert paired_difference(values, reference).high == pytest.approx(0.0696828)
    more_seeds = {**reference, 3: 0.0}
    assert paired_difference(values, more_seeds, (0.0, 1.0)).high == pytest.approx(0.04), "seed 3 is no pair"
    high = [(0.96 + shift, ood) for shift, (_, ood) in zip((0, 0.02, 0.04), PLAIN, strict=True)]
    flat = [(0.96, ood) for _, ood in PLAIN]
    assert "ID +2.0 [−3.0, +4.0]" in verdicts(comparison({"plain": flat, "ftp": high}))[0].sentence.replace(
        "\N{NO-BREAK SPACE}", " "
    )


def difference(p_value, **known):
    return PairedDifference(0.1, 0.01, 0.19, {0: 0.1, 1: 0.1, 2: 0.1}, p_value, **known)


def test_holm_by_hand():
    found = holm({"a": difference(0.01), "b": difference(0.04), "c": difference(0.03), "d": difference(0.9)})
    # 4 · 0.01, 3 · 0.03, 2 · 0.04 (no less than the one before), 0.9.
    assert {name: each.p_value for name, each in found.items()} == pytest.approx(
        {"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9}
    )
    assert [name for name, each in found.items() if each.is_clear] == ["a"]
    one_seed = paired_difference({0: 0.9}, {0: 0.8})
    assert holm({"a": difference(0.04), "b": one_seed}) == {"a": difference(0.04), "b": one_seed}


def test_many_comparisons_are_corrected():
    # t is 0.02 √3 / 0.0035; with 2 degrees of freedom p is 1 − t / √(t² + 2) = 0.01005, and six times that is 0.0603.
    small = [(identity, ood + by) for (identity, ood), by in zip(PLAIN, (0.0165, 0.02, 0.0235), strict=True)]
    (alone,) = verdicts(comparison({"plain": PLAIN, "ftp": small}, corruptions=()))
    assert alone.differences["ood"].p_value == pytest.approx(0.01005, abs=1e-5)
    assert alone.sign("ood") == 1
    others = dict.fromkeys(("linear-probe", "lp-ft", "l2-sp", "tpgm", "spd"), TIE)
    many = comparison({"plain": PLAIN, "ftp": small, **others}, corruptions=())
    assert differences_to_plain(many)["ftp", "ood"].p_value == pytest.approx(0.0603, abs=1e-4)
    found = verdicts(many)[0]
    assert found.sign("ood") == 0
    assert "OOD +2.0 [+1.1, +2.9]" in found.sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert "do not separate" in said(many)


def test_differences_at_the_same_accuracy_are_corrected_among_themselves():
    wise = [(0.86, 0.63), (0.87, 0.65), (0.88, 0.64)]
    small = [(0.88, 0.64), (0.89, 0.66), (0.90, 0.66)]
    few = matched_differences(comparison({"plain": PLAIN, "wise-ft": wise, "ftp": small}))
    many = matched_differences(comparison({"plain": PLAIN, "wise-ft": wise, "ftp": small, "spd": small, "tpgm": small}))
    assert many["ftp"].p_value == pytest.approx(min(1.0, 3 * few["ftp"].p_value))
    assert (many["ftp"].low, many["ftp"].high) == (few["ftp"].low, few["ftp"].high)


def test_smaller_rates_of_the_null_hypothesis_were_tried_with_plain_fine_tuning():
    figures = {"plain": PLAIN, "small-lr": PLAIN, "ftp": GAIN}
    results = with_sweep(comparison(figures), "plain", tried=[1e-3, 1e-2], chosen=1e-3)
    assert "But" not in said(results)
    without = with_sweep(comparison({"plain": PLAIN, "ftp": GAIN}), "plain", tried=[1e-3, 1e-2], chosen=1e-3)
    assert "But Plain fine-tuning (learning_rate 0.001) did best at the edge" in said(without)
    alone = with_sweep(comparison(figures), "plain", tried=[1e-3], chosen=1e-3)
    assert "But" not in said(alone), "the one rate of its own lies between others"
    for method in ("plain", "small-lr"):
        with_sweep(results, method, "num_train_epochs", tried=[3], chosen=3)
    assert "But" not in said(results), "the same length twice is a single one"


def test_the_very_runs_of_plain_fine_tuning_are_no_hypothesis():
    results = comparison({"plain": PLAIN, "small-lr": PLAIN, "ftp": GAIN})
    p_value = differences_to_plain(comparison({"plain": PLAIN, "ftp": GAIN}))["ftp", "ood"].p_value
    assert differences_to_plain(results)["ftp", "ood"].p_value == pytest.approx(2 * p_value)
    for run, plain in zip(results.chosen_runs("small-lr"), results.chosen_runs("plain"), strict=True):
        run.summary = plain.summary
    found = differences_to_plain(results)
    assert found["ftp", "ood"].p_value == pytest.approx(p_value)
    assert found["small-lr", "ood"].mean == 0


def test_nor_are_they_one_at_the_same_accuracy():
    wise, small = [(0.86, 0.63), (0.87, 0.65), (0.88, 0.64)], [(0.88, 0.64), (0.89, 0.66), (0.90, 0.66)]
    few = matched_differences(comparison({"plain": PLAIN, "wise-ft": wise, "ftp": small}))
    results = comparison({"plain": PLAIN, "wise-ft": wise, "small-lr": PLAIN, "ftp": small})
    for run, plain in zip(results.chosen_runs("small-lr"), results.chosen_runs("plain"), strict=True):
        run.summary = plain.summary
    found = matched_differences(results)
    assert found["ftp"] == few["ftp"]
    assert found["small-lr"].mean == 0
