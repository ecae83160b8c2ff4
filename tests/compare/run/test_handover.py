"""What the chosen runs of a comparison leave, and which of them is recommended."""

import math
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest

from ftp_hf.cli import main
from ftp_hf.compare.evidence.recommendation import recommended
from ftp_hf.compare.run.handover import check_vacant, hand_over, what_next
from ftp_hf.runs.facts import DataFacts
from ftp_hf.runs.rules import load_rules
from ftp_hf.runs.summary import RunSummary
from tests.support.comparisons import GAIN, LOSS, PLAIN, TIE, comparison, with_inert, with_retained

TRAIN = DataFacts("train", "train", 1000, source="train.parquet")
MORE = [(identity, ood + 0.01) for identity, ood in GAIN]
DEARER = [(identity - 0.05, ood + 0.05) for identity, ood in GAIN]
FIGURES = {"plain": PLAIN, "linear-probe": LOSS, "tpgm": TIE, "l2-sp": MORE, "lp-ft": DEARER, "ftp": GAIN}
FEW = {"plain": PLAIN, "l2-sp": GAIN}


def kept(folder, figures=FEW, **changes):
    """A comparison whose chosen runs have their weights in a folder."""
    results = comparison(figures, **changes)
    for method in results.methods:
        for run in results.chosen_runs(method.name):
            run.folder = f"runs/{run.method}-seed{run.seed}"
            (folder / run.folder).mkdir(parents=True)
            (folder / run.folder / "model.safetensors").touch()
    return results


def test_the_largest_clear_gain_that_costs_no_id_is_recommended_and_its_best_validation(tmp_path):
    results = kept(tmp_path, FIGURES)
    best = recommended(results)
    assert (best.method, best.seed) == ("l2-sp", 2), "validation is 0.911, 0.92, 0.929; OOD is best with seed 1"
    (validation,) = results.chosen_runs("l2-sp")[0].summary.of_kind("validation")
    validation.metrics["accuracy"]["0"] = 0.95
    assert recommended(results).seed == 0, "its ID test is still the worst"


@pytest.mark.parametrize(
    ("figures", "changes"),
    [
        ({"plain": PLAIN, "tpgm": TIE, "linear-probe": LOSS}, {}),
        ({"plain": PLAIN[:2], "l2-sp": GAIN[:2]}, {}),
        ({"l2-sp": GAIN}, {}),
        (FEW, {"ood": (), "corruptions": ()}),
        (FEW, {"rules": ["id/test >= 0.905"]}),
    ],
    ids=["no gain", "two seeds", "no plain", "nothing but id", "a run breaks a rule"],
)
def test_nothing_is_recommended(tmp_path, figures, changes):
    results = kept(tmp_path, figures, **changes)
    assert recommended(results) is None
    assert what_next(results, tmp_path)[0].startswith("No run is recommended: ")


@pytest.mark.parametrize("kind", ["corrupted", "ood"])
def test_a_clear_loss_on_any_data_forbids_it(tmp_path, kind):
    results = with_retained(kept(tmp_path), "speech", "wer", 0.2, {"plain": [0.5] * 3, "l2-sp": [0.3, 0.31, 0.29]})
    assert recommended(results).method == "l2-sp"
    for run in results.chosen_runs("l2-sp"):
        for result in run.summary.of_kind(kind):
            result.metrics["accuracy"] = {seed: value - 0.3 for seed, value in result.metrics["accuracy"].items()}
    assert recommended(results) is None


def test_weights_that_are_gone_are_not_recommended(tmp_path):
    results = kept(tmp_path)
    results.chosen_runs("l2-sp")[2].folder = None
    assert recommended(results).seed == 1
    for run in results.chosen_runs("l2-sp"):
        run.folder = None
    assert recommended(results) is None
    assert "one of them" in what_next(results, tmp_path)[0]
    for run in results.all_chosen():
        run.folder = None
    (said,) = what_next(results, tmp_path)
    assert said.startswith(f"No weights are left: delete a run's folder in {tmp_path / 'runs'} and start again")


def test_rules_are_part_of_the_recommendation_and_of_the_commands(tmp_path, capsys):
    folder = tmp_path / "a folder"
    results = kept(folder, rules=["ood/sketch >= 0.51", "id/test <= 0.92"])
    hand_over(results, folder, TRAIN)
    said, check, push = what_next(results, folder)
    assert said.startswith("Recommended: L2-SP, learning_rate 0.001, seed 2.")
    assert f"{folder / 'best'} (a link to runs/l2-sp-seed2)" in said
    program, *words = shlex.split(check)
    assert program == "ftp-hf"
    assert main(words) == 0
    assert capsys.readouterr().out.count("met") == 2
    assert shlex.split(push)[1:] == [
        "push", str(folder / "best"), "USER/NAME", "--rules", str(folder / "rules.yaml")
    ]  # fmt: skip


def test_every_chosen_run_has_results_and_a_card_beside_plain_and_the_other_seeds(tmp_path):
    results = kept(tmp_path)
    hand_over(results, tmp_path, TRAIN)
    for method in results.methods:
        for run in results.chosen_runs(method.name):
            told = RunSummary.load(tmp_path / run.folder)
            assert (told.name, told.seed) == (f"quick-{run.method}-seed{run.seed}", run.seed)
            assert told.value("test", "accuracy") == run.value("id", "accuracy")
            assert told.data[0] == TRAIN
            card = (tmp_path / run.folder / "README.md").read_text()
            assert "over seeds " in card
            assert "plain fine-tuning, 3 seeds" in card
            assert "`train.parquet`" in card
            assert "fog" not in card, "a row for each severity of each corruption says too much"


def test_doing_it_again_changes_what_has_changed_and_nothing_else(tmp_path):
    results = kept(tmp_path)
    hand_over(results, tmp_path, TRAIN)
    assert (tmp_path / "best").readlink() == Path("runs/l2-sp-seed2")
    card = tmp_path / "best" / "README.md"
    card.write_text(f"{card.read_text()}\nMine.\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    hand_over(results, tmp_path, TRAIN)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    results.rules = ["ood/sketch >= 0.53"]
    hand_over(results, tmp_path, TRAIN)
    assert not (tmp_path / "best").is_symlink(), "no method has runs that all meet it"


def test_rules_that_left_the_config_leave_the_folder_and_no_others_do(tmp_path):
    results = kept(tmp_path, rules=["id/test >= 0.5"])
    file = tmp_path / "rules.yaml"
    hand_over(results, tmp_path, TRAIN)
    assert [rule.text for rule in load_rules(file)] == results.rules
    results.rules = []
    hand_over(results, tmp_path, TRAIN)
    assert not file.exists()
    file.write_text("rules: [id/test >= 0.9]\n")
    hand_over(results, tmp_path, TRAIN)
    assert file.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"methods": [], "runs": []}', "comparison"),
        ('{"methods": [], "orders": []}', "stream"),
        ('{"task": "image-classification"}', "run or something else"),
        ("[1]", "run or something else"),
        ('{"methods": [', None),  # whoever is told so starts the comparison again
        (None, None),
    ],
)
def test_results_of_another_kind_are_not_overwritten(tmp_path, content, found):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    for what in ("comparison", "stream"):
        refused = pytest.raises(
            FileExistsError, match=f"^{tmp_path}/results.json is of a {found}, and this {what} would"
        )
        with nullcontext() if found in (what, None) else refused:
            check_vacant(tmp_path, what)


def test_rules_of_another_kind_are_not_overwritten(tmp_path):
    results = kept(tmp_path, rules=["id/test >= 0.5"])
    hand_over(results, tmp_path, TRAIN)
    check_vacant(tmp_path, "comparison", results.rules)
    file = tmp_path / "rules.yaml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))  # as git leaves it on some machines
    check_vacant(tmp_path, "comparison", results.rules)
    file.write_text("rules: [id/test >= 0.9]\n")
    check_vacant(tmp_path, "comparison")
    with pytest.raises(
        FileExistsError, match=r"rules.yaml was not written by a comparison, .* name another output_dir"
    ):
        check_vacant(tmp_path, "comparison", results.rules)


def test_a_folder_of_that_name_is_let_alone_and_the_run_is_named(tmp_path):
    (tmp_path / "best").mkdir()
    results = kept(tmp_path)
    hand_over(results, tmp_path, TRAIN)
    said, check, _ = what_next(results, tmp_path)
    assert f"are in {tmp_path / 'runs' / 'l2-sp-seed2'}. Next:" in said
    assert check == f"ftp-hf check {tmp_path / 'runs' / 'l2-sp-seed2'} --rules RULES.yaml"
    assert list((tmp_path / "best").iterdir()) == []


def test_seeds_of_different_configurations_have_no_mean(tmp_path):
    results = kept(tmp_path)
    run, other, _ = results.chosen_runs("l2-sp")
    other.summary.defaults["new_default"] = True
    hand_over(results, tmp_path, TRAIN)
    told = RunSummary.load(tmp_path / run.folder)
    assert list(told.results[0].metrics["accuracy"]) == ["0", "2"]
    card = (tmp_path / run.folder / "README.md").read_text()
    assert "Also trained with seed 1, in another configuration" in card
    assert "plain fine-tuning, 3 seeds" in card
    alone = (tmp_path / other.folder / "README.md").read_text()
    assert "Also trained with seeds 0, 2, in another configuration" in alone
    assert "One seed was trained" not in alone


def test_the_card_has_the_mean_over_corruptions_that_the_report_has(tmp_path):
    results = with_inert(kept(tmp_path, ood=()), "fog")
    hand_over(results, tmp_path, TRAIN)
    run = results.chosen_runs("l2-sp")[0]
    # Noise takes 2, 4, … 10 points from ID 90.1, 91.0 and 91.9; of plain fine-tuning from 90, 91 and 92.
    card = (tmp_path / run.folder / "README.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "| corrupted mean (5 sets) | 84.1 | 85.0 ± 1.0 | 85.0 ± 0.9 |" in card
    assert "not evaluated out of distribution, only on copies of its test data with artificial damage" in card


def test_the_card_of_a_method_that_diverged_has_no_figures_of_guessing(tmp_path):
    results = kept(tmp_path, ood=("sketch",))
    for run in results.chosen_runs("l2-sp"):
        for result in run.summary.results:
            result.metrics["loss"] = {str(run.seed): math.nan if run.seed == 1 else 0.3}
    hand_over(results, tmp_path, TRAIN)
    card = (tmp_path / results.chosen_runs("l2-sp")[0].folder / "README.md").read_text()
    assert "| ID test | 90.1 | 91.0 ± 1.0 | nan |" in card.replace("\N{NO-BREAK SPACE}", " ")


def test_a_card_that_cannot_be_written_loses_nothing(tmp_path, caplog):
    results = kept(tmp_path)
    (tmp_path / "runs" / "l2-sp-seed0" / "README.md").write_text("---\na: [\n---\nMine.\n")
    hand_over(results, tmp_path, TRAIN)
    assert "README.md could not be written" in caplog.text
    assert RunSummary.load(tmp_path / "runs" / "l2-sp-seed0").seed == 0
    assert (tmp_path / "runs" / "l2-sp-seed1" / "README.md").is_file()
