import math

import pytest

from ftp_hf.common.figures import change, duration, mean_and_sd, signed, size
from ftp_hf.compare.evidence.formats import bound, difference, interval
from ftp_hf.compare.evidence.measures import diverged
from ftp_hf.compare.evidence.statistics import PairedDifference
from ftp_hf.compare.evidence.verdict import headline, verdicts
from tests.support.comparisons import GAIN, LOSS, PLAIN, TIE, comparison, lost, with_retained


def sentence(figures, **sets):
    """What is said of the only other method, with ordinary spaces."""
    (verdict,) = verdicts(comparison({"plain": PLAIN, **figures}, **sets))
    return verdict.sentence.replace("\N{NO-BREAK SPACE}", " ")


def test_gain():
    # ID within t · 0.001 / √3 = 0.00248, which is not within 0.2 points.
    assert sentence({"ftp": GAIN}, corruptions=()) == (
        "FTP keeps ID within 0.3 points of plain fine-tuning and gains 2.0 points OOD [+1.8, +2.2], at +4 % time per step."
    )


def test_a_method_that_diverged_is_not_one_that_seeds_do_not_separate():
    results = comparison({"plain": PLAIN, "ftp": lost(GAIN)}, corruptions=())
    assert headline(results) == "FTP diverged in 1 of 3 seeds: figures that are not finite have no mean."
    assert verdicts(results)[0].sentence.startswith("FTP diverged in 1 of 3 seeds: ID nan")
    several = {"plain": PLAIN, "ftp": lost(GAIN), "tpgm": TIE, "l2-sp": TIE}
    assert headline(comparison(several, corruptions=())) == (
        "Out of distribution, 3 seeds do not separate any of 2 other methods from plain fine-tuning: the evidence supports none of "
        "them over it. FTP diverged in 1 of 3 seeds: figures that are not finite have no mean."
    )
    del several["l2-sp"]
    assert "separate one other method from plain fine-tuning: the evidence does not" in headline(comparison(several))
    said = headline(comparison({**several, "l2-sp": GAIN}))
    assert (
        "is above plain fine-tuning; 3 seeds do not separate one other from it. FTP diverged in 1 of 3 seeds:" in said
    )


def test_a_model_that_says_the_first_class_of_all_has_diverged():
    results = comparison(corruptions=())
    run = results.chosen_runs("ftp")[0]
    for result in run.summary.results:
        result.metrics["loss"] = {"0": math.nan}
    assert diverged(results, "ftp") == [0]
    assert headline(results) == "FTP diverged in 1 of 3 seeds: figures that are not finite have no mean."
    assert math.isnan(run.value("validation", "accuracy")), "no such setting is chosen"


def test_of_a_method_that_diverged_on_some_data_the_others_count():
    results = with_retained(
        comparison(corruptions=()), "web", "perplexity", 9.0, {"plain": [9.0, 9.1, 9.2], "ftp": [math.inf, 9.1, 9.2]}
    )
    assert headline(results).replace("\N{NO-BREAK SPACE}", " ") == (
        "Out of distribution, FTP (+2.0 points [+1.8, +2.2]) is above plain fine-tuning. FTP diverged in 1 of 3 seeds: figures "
        "that are not finite have no mean."
    )
    tie = with_retained(
        comparison({"plain": PLAIN, "ftp": TIE}),
        "web",
        "perplexity",
        9.0,
        {"plain": [9.0] * 3, "ftp": [math.inf, 9, 9]},
    )
    assert headline(tie) == (
        "Out of distribution, 3 seeds do not separate the only other method from plain fine-tuning: the evidence does not support "
        "it. FTP diverged in 1 of 3 seeds: figures that are not finite have no mean."
    )
    (verdict,) = verdicts(results)
    assert "gains 2.0\N{NO-BREAK SPACE}points OOD" in verdict.sentence
    assert verdict.sentence.endswith(" FTP diverged in 1 of 3 seeds.")


def test_where_plain_fine_tuning_diverged_nothing_is_measured_against_it():
    results = comparison({"plain": lost(PLAIN), "ftp": GAIN}, metric="spearman", corruptions=())
    assert headline(results).startswith("Plain fine-tuning diverged in 1 of 3 seeds: ")
    assert verdicts(results)[0].sentence.startswith("Plain fine-tuning diverged in 1 of 3 seeds: ID nan")


def test_loss():
    assert sentence({"linear-probe": LOSS}) == (
        "Linear probe loses 5.0 points ID [−5.2, −4.8], 5.0 points OOD [−5.2, −4.8] and 5.0 points on corrupted data "
        "[−5.2, −4.8], at −60 % time per step."
    )


def test_a_clear_gain_is_not_printed_as_none():
    # OOD +0.0003, +0.00031, +0.00029.
    figures = [(identity, ood + gain) for (identity, ood), gain in zip(PLAIN, (0.0003, 0.00031, 0.00029), strict=True)]
    assert "gains 0.03 points OOD [+0.03, +0.03]" in sentence({"ftp": figures}, corruptions=())
    said = headline(comparison({"plain": PLAIN, "ftp": figures}, corruptions=()))
    assert said.startswith(
        "Out of distribution, FTP (+0.03\N{NO-BREAK SPACE}points [+0.03,\N{NO-BREAK SPACE}+0.03]) is above"
    )


def test_a_clear_loss_is_not_kept_however_small():
    # −0.005, −0.0051, −0.0049: within a point, and not zero.
    figures = [(one - lost, ood) for (one, ood), lost in zip(PLAIN, (0.005, 0.0051, 0.0049), strict=True)]
    assert sentence({"ftp": figures}, corruptions=()) == (
        "FTP loses 0.5 points ID [−0.5, −0.5], at +4 % time per step; not separated: OOD 0.0 [0.0, 0.0]."
    )


def test_tie():
    assert sentence({"tpgm": TIE}, corruptions=()) == (
        "3 seeds do not separate TPGM from plain fine-tuning: ID 0.0 [−7.5, +7.5], OOD +1.0 [−8.0, +10.0]; "
        "at +100 % time per step and +50 % peak memory."
    )


def test_trade():
    traded = [(0.85, 0.619), (0.859, 0.64), (0.871, 0.631)]
    assert sentence({"ftp": traded}, corruptions=()) == (
        "FTP gains 2.0 points OOD [+1.8, +2.2] and loses 5.0 points ID [−5.2, −4.8], at +4 % time per step."
    )


def test_what_is_left_open_is_said():
    unclear = [(identity, ood) for (identity, _), (_, ood) in zip(LOSS, TIE, strict=True)]
    assert sentence({"ftp": unclear}, corruptions=()) == (
        "FTP loses 5.0 points ID [−5.2, −4.8], at +4 % time per step; not separated: OOD +1.0 [−8.0, +10.0]."
    )


def test_a_wide_interval_keeps_nothing():
    # ID −0.03, +0.03, 0: its mean is kept, but who knows.
    figures = [(identity, ood) for (identity, _), (_, ood) in zip(TIE, GAIN, strict=True)]
    assert "keeps" not in sentence({"ftp": figures})
    assert "not separated: ID 0.0 [−7.5, +7.5]" in sentence({"ftp": figures}, corruptions=())


def test_seeds_that_agree_by_chance_keep_nothing():
    figures = [(identity + 0.005, ood) for (identity, _), (_, ood) in zip(PLAIN, GAIN, strict=True)]
    assert "keeps" not in sentence({"ftp": figures}, corruptions=())
    assert "not separated: ID +0.5 [+0.5, +0.5]" in sentence({"ftp": figures}, corruptions=())


def test_one_seed():
    results = comparison({"plain": PLAIN[:1], "ftp": GAIN[:1]}, corruptions=())
    assert verdicts(results)[0].sentence == "One seed: nothing can be concluded about FTP (ID +0.1, OOD +1.9)."
    assert headline(results) == "One seed: nothing can be concluded from this comparison."


def test_no_plain():
    results = comparison({"l2-sp": PLAIN, "ftp": GAIN})
    assert verdicts(results) == []
    assert headline(results) == (
        "Plain fine-tuning is not among the methods: there is nothing to measure the others against."
    )


def test_no_ood():
    assert sentence({"ftp": LOSS}, ood=(), corruptions=()) == (
        "FTP loses 5.0 points ID [−5.2, −4.8], at +4 % time per step."
    )
    results = comparison({"plain": PLAIN, "ftp": LOSS}, ood=(), corruptions=())
    assert headline(results) == (
        "No OOD sets were evaluated: nothing can be said about robustness, only about ID accuracy."
    )


def test_no_ood_but_retained_data_that_tell_nothing_apart():
    results = comparison({"plain": PLAIN, "ftp": LOSS}, ood=(), corruptions=())
    errors = {"plain": [0.30, 0.40, 0.50], "ftp": [0.41, 0.29, 0.52]}
    assert headline(with_retained(results, "speech", "wer", 0.10, errors)) == (
        "On retained data, 3 seeds do not separate the only other method from plain fine-tuning: the evidence does not support it."
    )


def test_only_corruptions():
    results = comparison({"plain": PLAIN, "ftp": LOSS}, ood=())
    assert headline(results).replace("\N{NO-BREAK SPACE}", " ") == (
        "On corrupted data, FTP (−5.0 points [−5.2, −4.8], ID −5.0) is below plain fine-tuning."
    )


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"ftp": GAIN}, "Out of distribution, FTP (+2.0 points [+1.8, +2.2]) is above plain fine-tuning."),
        (
            {"linear-probe": LOSS, "tpgm": TIE, "ftp": GAIN},
            (
                "Out of distribution, FTP (+2.0 points [+1.8, +2.2]) is above plain fine-tuning and Linear probe (−5.0 points "
                "[−5.2, −4.8], ID −5.0) is below it; 3 seeds do not separate one other from it."
            ),
        ),
        (
            {"tpgm": TIE, "spd": TIE},
            (
                "Out of distribution, 3 seeds do not separate any of the 2 other methods from plain fine-tuning: the evidence "
                "supports none of them over it."
            ),
        ),
        (
            {"ftp": TIE},
            (
                "Out of distribution, 3 seeds do not separate the only other method from plain fine-tuning: the evidence does "
                "not support it."
            ),
        ),
        ({"ftp": []}, "No method has a finished run beside plain fine-tuning yet: there is nothing to conclude."),
    ],
)
def test_headline(figures, said):
    assert headline(comparison({"plain": PLAIN, **figures})).replace("\N{NO-BREAK SPACE}", " ") == said


def test_many_methods_are_named_without_intervals_from_the_largest_down():
    better = [(identity, ood + 0.01) for identity, ood in GAIN]
    figures = {"plain": PLAIN, "l2-sp": GAIN, "tpgm": better, "ftp": GAIN}
    assert "TPGM (+3.0 points), L2-SP (+2.0 points) and FTP (+2.0 points) are above" in headline(
        comparison(figures)
    ).replace("\N{NO-BREAK SPACE}", " ")


def test_unfinished_methods():
    results = comparison({"plain": PLAIN, "l2-sp": GAIN[:2], "spd": []})
    said = [verdict.sentence for verdict in verdicts(results)]
    assert said[0] == "Two seeds: nothing can be concluded about L2-SP (ID +0.1, OOD +1.9, corrupted data +0.1)."
    assert verdicts(results)[0].seeds == 2
    assert said[1] == "SPD: no finished run yet that shares a seed with plain fine-tuning."
    assert verdicts(comparison({"plain": [], "ftp": GAIN})) == []


@pytest.mark.parametrize("method", ["plain", "ftp"])
def test_never_a_claim_from_an_interval_with_zero(method):
    # A difference of 2 points, with more and more noise: the words follow the interval.
    for noise in (0.001, 0.005, 0.01, 0.02):
        figures = [
            (identity, ood + 0.02 + shift) for (identity, ood), shift in zip(PLAIN, (-noise, 0, noise), strict=True)
        ]
        results = comparison(
            {"plain": figures, "ftp": PLAIN} if method == "plain" else {"plain": PLAIN, "ftp": figures}
        )
        (verdict,) = verdicts(results)
        known = verdict.differences["ood"]
        half = 4.302653 * noise / math.sqrt(3)
        assert known.is_clear == (half < 0.02)
        assert ("points OOD" in verdict.sentence) == known.is_clear
        assert ("do not separate" in headline(results)) == (not known.is_clear)


def test_other_metrics_have_their_own_units():
    (verdict,) = verdicts(comparison({"plain": PLAIN, "ftp": GAIN}, corruptions=(), metric="matthews_correlation"))
    assert "gains 0.02 OOD [+0.01752, +0.02248]" in verdict.sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert "keeps" not in verdict.sentence


def test_formats():
    def plain(text):
        return text.replace("\N{NO-BREAK SPACE}", " ")

    assert plain(mean_and_sd([0.9, 0.92], "accuracy")) == "91.0 ± 1.4"
    assert plain(mean_and_sd([0.9], "accuracy")) == "90.0"
    assert plain(mean_and_sd([2.83, 2.83004], "loss")) == "2.83 ± 2.8e-05", "no more digits than two seeds can tell"
    assert mean_and_sd([], "accuracy") == ""
    assert [signed(value, "accuracy") for value in (0.0034, -0.012, -0.0004)] == ["+0.3", "−1.2", "0.0"]
    assert [bound(value, "accuracy") for value in (0.003, 0.0031, 0.0)] == ["0.3", "0.4", "0.0"]
    assert [plain(change(ratio)) for ratio in (1.04, 0.88, 1.001, 21.0)] == ["+4 %", "−12 %", "±0 %", "+2,000 %"]
    assert [plain(duration(seconds)) for seconds in (0.0123, 1.5, 600, 9000)] == [
        "12.3 ms",
        "1.5 s",
        "10.0 min",
        "2.5 h",
    ]
    assert [plain(size(count)) for count in (2**30 * 1.5, 2**20)] == ["1.50 GiB", "1.0 MiB"]
    clear = PairedDifference(0.005, 0.0004, 0.0096, {})
    assert plain(interval(clear, "accuracy")) == "[+0.04, +1.0]"
    small = PairedDifference(-0.0003, -0.00034, -0.00026, {})
    assert plain(difference(small, "accuracy")) == "−0.03 [−0.03, −0.03]"
    assert plain(difference(PairedDifference(0.0, -0.0004, 0.0004, {}), "accuracy")) == "0.0 [0.0, 0.0]"
    assert difference(None, "accuracy") == ""
