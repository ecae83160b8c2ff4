import json
import statistics

import pytest
from datasets import Dataset

from ftp_hf import RunSummary, data_facts
from ftp_hf.common.privacy import public_command, public_name, public_value
from ftp_hf.runs.facts import DataFacts, LogRow
from ftp_hf.runs.logs import log_rows
from ftp_hf.runs.seeds import combine
from tests.support.summaries import make_summary


def test_json_round_trip(tmp_path):
    summary = combine([make_summary(0), make_summary(1)], {"pre-trained": [make_summary(0, "plain", 0.2)]})
    file = summary.save(tmp_path)
    assert RunSummary.load(tmp_path) == RunSummary.load(file) == summary
    assert RunSummary.load(file).to_json() == file.read_text()


def test_what_is_empty_is_not_written():
    assert json.loads(RunSummary("m", "plain").to_json()).keys() == {"name", "method", "config_hash"}


@pytest.mark.parametrize("content", ["[]", "{", '{"name": "m"}', '{"name": "m", "method": "ftp", "colour": 1}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json is not a run's summary: .+ run it again"):
        RunSummary.load(tmp_path)


def test_missing_results_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="did the run finish"):
        RunSummary.load(tmp_path)


def test_headline_and_means():
    assert make_summary().headline() == "ID 90.0, OOD mean 60.0 (2 sets)"
    assert RunSummary("m", "ftp").headline() == ""
    together = combine([make_summary(0), make_summary(1, shift=0.1)])
    assert together.headline() == "ID 90.0, OOD mean 60.0 (2 sets)"
    assert together.results[0].metrics["accuracy"] == {"0": 0.9, "1": 1.0}
    assert together.commands == ["python train.py --seed 0", "python train.py --seed 1"]


@pytest.mark.parametrize(
    ("facts", "epoch"),
    [
        ({"kept_step": 50, "hyperparameters": {"num_train_epochs": 20}}, 1.0),
        ({"kept_step": 1000, "defaults": {"num_train_epochs": 20, "max_steps": -1}}, 20.0),
        ({"kept_step": 50, "hyperparameters": {"max_steps": 1000}, "defaults": {"num_train_epochs": 3.0}}, None),
        ({"kept_step": 50, "hyperparameters": {"max_steps": 1000}, "log": [LogRow(50, 2.0), LogRow(1000, 40.0)]}, 2.0),
        ({"kept_step": 50}, None),
        ({"hyperparameters": {"num_train_epochs": 20}}, None),
    ],
    ids=["early", "last", "max-steps", "logged", "no-epochs", "no-step"],
)
def test_after_which_epoch_weights_are_kept(facts, epoch):
    assert RunSummary("m", "plain", steps=1000, **facts).kept_epoch == epoch


def test_the_hash_is_that_of_the_settings():
    assert make_summary(0).config_hash == make_summary(1).config_hash
    assert make_summary(0).config_hash != make_summary(0, hyperparameters={"learning_rate": 0.2}).config_hash


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (make_summary(1, hyperparameters={"learning_rate": 0.2}), "differ in more than the seed"),
        (make_summary(0), "have the same seed"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        combine([make_summary(0), second])


def test_other_data_is_refused():
    other = make_summary(0, "plain")
    other.data[2].size = 61
    with pytest.raises(ValueError, match="cannot be compared"):
        combine([make_summary(0)], {"plain fine-tuning": [other]})


def test_forgotten_ood_is_measured_per_seed():
    together = combine([make_summary(0), make_summary(1, shift=0.1)])
    values = [[result.metrics["accuracy"][seed] for result in together.of_kind("ood")] for seed in ("0", "1")]
    assert [statistics.fmean(each) for each in values] == pytest.approx([0.6, 0.7])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/home/someone/models/vit", "vit"),
        ("../shared/data/x.parquet", "x.parquet"),
        ("name=/data/x.parquet?split=test", "name=x.parquet?split=test"),
        ("~/models/vit/", "vit"),
        ("C:\\models\\vit", "vit"),
        ("/home/some one/my models/vit", "vit"),
        ("saved in /home/someone/x.", "saved in x."),
        ("runs/demo", "runs/demo"),
        ("stanfordnlp/sst2#train", "stanfordnlp/sst2#train"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("1 / 2", "1 / 2"),
        ("\\\\server\\models\\vit", "vit"),
        ("C:\\some one\\vit", "vit"),
        ("in C:\\models\\vit or D:/x", "in vit or x"),
        (r"<<.*?>>|\s+", r"<<.*?>>|\s+"),
        (r"\d+\.\d+", r"\d+\.\d+"),
        (" /think ", " /think "),
        ("/think and/or answer", "/think and/or answer"),
        ("/my data/someone/models/vit", "vit"),
        ("/nas someone/models/vit", "vit"),
        ("\\Users\\someone\\vit", "vit"),
        ("in \\Users\\someone\\vit now", "in vit now"),
        (r"\think", r"\think"),
        (r"\bof\b|\w+", r"\bof\b|\w+"),
        ("[INST] {prompt} [/INST]", "[INST] {prompt} [/INST]"),
        ("hf_abcdefghijkl", "…"),
        ({"hub_token": "x", "eos_token": "</s>"}, {"hub_token": "…", "eos_token": "</s>"}),
        ([1, None, True, 0.5], [1, None, True, 0.5]),
    ],
)
def test_public_values(value, shown):
    assert public_value(value) == shown


def test_public_command_and_names(tmp_path):
    shown = public_command(
        ["python", "a.py", "--hub_token", "secret", "--token=secret", "--model", "/a/b c", "--x=/y/z"]
    )
    assert shown == "python a.py --hub_token … --token=… --model 'b c' --x=z"
    assert public_name("someone/encoder") == ("someone/encoder", True)
    assert public_name(str(tmp_path)) == (tmp_path.name, False)
    assert public_name("../models/vit") == ("vit", False)


def test_data_tells_where_it_came_from():
    dataset = Dataset.from_dict({"text": ["a"]})
    assert data_facts(dataset, "n", "ood", "/a/b.csv") == DataFacts("n", "ood", 1, ["text"], "b.csv")
    dataset.info.download_checksums = {f"hf://datasets/someone/data@{'c' * 40}/x.parquet": {}}
    facts = data_facts(dataset, "n", "ood")
    assert (facts.source, facts.on_hub, facts.revision) == ("someone/data", True, "c" * 40)


def test_data_without_a_length_is_told_too():
    class Stream:
        def __len__(self):
            raise TypeError

    assert data_facts(Stream(), "n", "ood") == data_facts(iter([]), "n", "ood") == DataFacts("n", "ood")


def test_log_rows_join_what_was_logged_at_a_step():
    rows = log_rows(
        [
            {"loss": 1.0, "epoch": 1.0, "step": 2, "ftp_radius_median": 0.1, "ftp_radius_max": 0.2},
            {"eval_accuracy": 0.5, "eval_runtime": 1.0, "eval_samples_per_second": 2.0, "epoch": 1.0, "step": 2},
            {"train_runtime": 3.0, "train_loss": 1.0, "step": 2},
        ]
    )
    assert rows == [LogRow(2, 1.0, 1.0, {"accuracy": 0.5}, 0.1, 0.2)]
