"""Comparisons as the command runs them: on tiny models and data, with processes that are killed."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from datasets import Dataset
from filelock import FileLock
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

from ftp_hf.checkpoints.lock import run_lock
from ftp_hf.cli import main
from ftp_hf.common.records import plain
from ftp_hf.compare import ComparisonConfig, ComparisonResults, compare
from ftp_hf.compare.evidence.rates import at_rates
from ftp_hf.compare.run.data import RunData
from ftp_hf.compare.run.plan import Run, settings_of
from ftp_hf.compare.run.processes import Elsewhere
from ftp_hf.compare.run.runner import Runner
from ftp_hf.hub.files import check_files, list_run_files
from ftp_hf.pretrained import new_parameters
from ftp_hf.runs.summary import RunSummary
from tests.support.comparing import figures
from tests.support.equal import assert_equal
from tests.support.tiny_data import image_config, write_config

ALL = ["plain", "linear-probe", "lp-ft", "l2-sp", "tpgm", "spd", "mofo", "lora", "ftp", "lora+ftp", "lora+factors"]


def load(folder, content):
    return ComparisonConfig.load(write_config(folder, content))


@pytest.mark.slow
def test_three_methods_and_one_seed(images, tmp_path):
    methods = {"plain": {}, "ftp": {}, "wise-ft": {"alpha": 0.5}}
    content = image_config(images, methods=methods, seeds=[0], learning_rate=[1e-2], rules=["id/test >= 0"])
    content["training"] |= {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    results = compare(load(tmp_path, content), tmp_path / "out")
    assert sorted(run.method for run in results.runs) == sorted(methods)
    for run in results.runs:
        assert (run.setting, run.seed, run.summary.steps) == (results.method(run.method).chosen, 0, 2)
        kinds = [(result.kind, result.data) for result in run.summary.results]
        assert kinds == [("validation", "validation"), ("id", "test"), ("ood", "pale")]
        for result in run.summary.results[1:]:
            of_classes = result.details["recall_by_class"]["0"]
            assert sorted(of_classes) == ["dark", "light"]
            assert sum(of_classes.values()) / 2 == pytest.approx(result.metrics["balanced_accuracy"]["0"])
    assert "Every class" in (tmp_path / "out" / "report.html").read_text()
    assert plain(ComparisonResults.load(tmp_path / "out")) == plain(results)
    assert all(method.title in (tmp_path / "out" / "report.html").read_text() for method in results.methods)
    for run in results.runs:
        check_what_is_left(run, tmp_path / "out")
    halfway = load_file(tmp_path / "out" / results.chosen_runs("wise-ft")[0].folder / "model.safetensors")
    ended = load_file(tmp_path / "out" / results.chosen_runs("plain")[0].folder / "model.safetensors")
    started = load_file(images / "model" / "model.safetensors")
    for name, tensor in started.items():
        assert torch.allclose(halfway[f"vit.{name}"], (tensor + ended[f"vit.{name}"]) / 2, atol=1e-7)


def check_what_is_left(run, folder):
    """The folder of a chosen run is like that of any finished run: it can be checked, pushed and loaded."""
    kept = folder / run.folder
    assert run.folder in (folder / "report.md").read_text()
    assert main(["check", str(kept), "--rules", str(folder / "rules.yaml")]) == 0
    names = list_run_files(kept)
    assert {"README.md", "results.json", "preprocessor_config.json"} <= set(names)
    summary = RunSummary.load(kept)
    assert summary.value("test", "accuracy") == run.value("id", "accuracy")
    assert (summary.data[0].source, summary.data[0].size) == ("train.parquet", 32)
    if summary.adapter is None:
        check_files(kept, names, {})
        _, loading = AutoModelForImageClassification.from_pretrained(kept, output_loading_info=True)
        assert not any(loading.values())


@pytest.fixture(scope="module")
def compared(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    methods = {name: {} for name in ALL} | {"wise-ft": {"alpha": [0.0, 0.5, 1.0]}}
    corruptions = {"kinds": ["contrast"], "severities": [1, 5], "max_samples": 8}
    config = load(folder, image_config(images, methods=methods, corruptions=corruptions, rules=["id/test >= 0"]))
    return config, compare(config, folder / "out"), folder / "out"


@pytest.mark.slow
def test_every_method_is_swept_chosen_and_run_with_every_seed(compared):
    config, results, folder = compared
    assert [method.name for method in results.methods] == list(config.methods)
    for method in results.methods:
        runs = [run for run in results.runs if run.method == method.name]
        swept = [run for run in runs if run.seed == config.seeds[0]]
        best = max(run.value("validation", "accuracy") for run in swept)
        assert len(swept) == len(settings_of(config, method.name))
        chosen = results.chosen_runs(method.name)
        assert [run.seed for run in chosen] == config.seeds
        assert chosen[0].value("validation", "accuracy") == best
        for run in chosen:
            kinds = [(result.kind, result.data) for result in run.summary.results]
            assert kinds == [
                ("validation", "validation"),
                ("id", "test"),
                ("ood", "pale"),
                ("corrupted", "contrast/1"),
                ("corrupted", "contrast/5"),
            ]
            assert [bool(result.details) for result in run.summary.results] == [False, True, True, False, False]
    assert plain(ComparisonResults.load(folder)) == plain(results)
    assert all(method.title in (folder / "report.html").read_text() for method in results.methods)


@pytest.mark.slow
def test_what_was_not_chosen_never_meets_test_data(compared):
    _, results, folder = compared
    for method in results.methods:
        for run in results.runs:
            if run.method == method.name and run.setting != method.chosen and run.method != "wise-ft":
                assert {result.kind for result in run.summary.results} == {"validation"}
    assert not list(folder.glob("runs/*/checkpoint-*"))


@pytest.mark.slow
def test_interpolation_ends_in_the_plain_run(compared):
    _, results, _ = compared
    fine_tuned = {run.seed: run.summary.results for run in results.chosen_runs("plain")}
    ends = [run for run in results.runs if run.method == "wise-ft" and run.setting == {"alpha": 1.0}]
    assert {run.seed: run.summary.results for run in ends} == fine_tuned
    starts = [run for run in results.runs if run.method == "wise-ft" and run.setting == {"alpha": 0.0}]
    assert [run.summary.results for run in starts] != list(fine_tuned.values())


@pytest.mark.slow
def test_lp_ft_starts_from_the_probed_head_and_probing_moves_nothing_else(compared, images):
    config, results, folder = compared
    probe = Run("linear-probe", results.method("linear-probe").chosen, 0)
    probed = load_file(probe.folder(folder / "runs", config) / "model.safetensors")
    pretrained = load_file(images / "model" / "model.safetensors")
    held = {name.removeprefix("vit."): tensor for name, tensor in probed.items() if name.startswith("vit.")}
    assert_equal(held, pretrained)


@pytest.mark.slow
def test_the_distance_is_that_of_the_weights(compared, images):
    config, results, folder = compared
    run = results.chosen_runs("ftp")[0]
    kept = load_file(Run("ftp", run.setting, run.seed).folder(folder / "runs", config) / "model.safetensors")
    pretrained = load_file(images / "model" / "model.safetensors")
    saved = "encoder.layer.0.output.dense.weight"  # of `vit.layers.0.mlp.fc2`
    expected = (kept[f"vit.{saved}"] - pretrained[saved]).abs().sum(dim=1).max()
    moved = next(known for known in run.drift.parameters if known.name.endswith("layers.0.mlp.fc2.weight"))
    assert moved.row_norm == moved.lipschitz == pytest.approx(float(expected), rel=1e-4)
    assert moved.fine_tuned > 0
    assert not any("classifier" in known.name for known in run.drift.parameters), "the head has no pre-trained value"
    adapted = results.chosen_runs("lora+ftp")[0]
    assert 0 < adapted.drift.relative < 1


@pytest.mark.slow
def test_nothing_is_done_twice_and_what_an_earlier_version_did_not_leave_is_made_up_for(compared):
    config, results, folder = compared
    derived = set(folder.glob("runs/wise-ft-*/model.safetensors"))
    assert len(derived) == len(config.seeds), "those of the chosen setting"
    before = {path: path.stat().st_mtime_ns for path in set(folder.rglob("*.safetensors")) - derived}
    results_of_runs = set(folder.glob("runs/*/results.json"))
    lost = {path: path.read_bytes() for path in {*results_of_runs, *derived}}
    cards = [path.with_name("README.md") for path in results_of_runs]
    for path in [*lost, *cards]:
        path.unlink()
    again = compare(config, folder)
    assert plain(again.runs) == plain(results.runs)
    assert {path: path.stat().st_mtime_ns for path in set(folder.rglob("*.safetensors")) - derived} == before
    assert {path: path.read_bytes() for path in lost} == lost
    assert all(path.is_file() for path in cards)


@pytest.mark.slow
def test_every_chosen_run_can_be_checked_pushed_and_loaded(compared, images):
    config, results, folder = compared
    for run in (run for method in results.methods for run in results.chosen_runs(method.name)):
        check_what_is_left(run, folder)
    (run, _) = results.chosen_runs("lora+ftp")
    model = AutoModelForImageClassification.from_pretrained(images / "model", id2label={0: "dark", 1: "light"})
    model = PeftModel.from_pretrained(model, folder / run.folder).eval()
    dataset = RunData(config).validation
    pixels, labels = torch.stack([row["pixel_values"] for row in dataset]), [row["label"] for row in dataset]
    with torch.no_grad():
        found = model(pixels).logits.argmax(dim=1)
    assert float((found == torch.tensor(labels)).float().mean()) == pytest.approx(run.value("validation", "accuracy"))


@pytest.mark.slow
def test_weights_that_somebody_deleted_are_missing_and_nothing_is_trained_for_them(compared, tmp_path):
    config, results, folder = compared
    shutil.copytree(folder, tmp_path / "out", symlinks=True)
    for path in (tmp_path / "out").rglob("*.safetensors"):
        path.unlink()
    again = compare(config, tmp_path / "out")
    without = [dataclasses.replace(run, folder=None) for run in results.runs]
    assert figures(again) == figures(dataclasses.replace(results, runs=without))
    assert {run.folder for run in again.runs} == {None}
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert "The weights" not in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_what_another_process_trains_again_is_not_taken_for_finished(compared, tmp_path):
    config, results, folder = compared
    shutil.copytree(folder / "runs", tmp_path, dirs_exist_ok=True)
    known = results.chosen_runs("wise-ft")[0]
    base = Run("plain", results.method("plain").chosen, known.seed)
    run = Run("wise-ft", known.setting, known.seed, base)
    run.evaluation_file(tmp_path, config).unlink()
    (base.folder(tmp_path, config) / "trained.json").unlink()  # by which it begins
    with FileLock(base.folder(tmp_path, config) / "_turn.lock"), pytest.raises(Elsewhere):
        Runner(config, tmp_path, wait=False).evaluate(run)
    again = Runner(config, tmp_path, wait=False).evaluate(run)
    assert again.values("ood", "accuracy") == known.values("ood", "accuracy")


@pytest.mark.slow
def test_what_is_trained_is_counted(compared):
    _, results, _ = compared
    counts = {name: results.chosen_runs(name)[0].trainable_parameters for name in ALL}
    assert counts["linear-probe"] == 2 * 16 + 2, "the head alone"
    assert counts["plain"] == counts["lp-ft"] == counts["ftp"] == counts["tpgm"] > counts["lora"] > 34


@pytest.mark.slow
def test_weights_that_were_forgotten_are_trained_again_when_they_are_chosen(images, tmp_path):
    both = load(tmp_path, image_config(images, methods=["plain"], seeds=[0]))
    first = compare(both, tmp_path / "out")
    chosen = first.method("plain").chosen
    other = next(rate for rate in both.learning_rate if {"learning_rate": rate} != chosen)
    run = Run("plain", {"learning_rate": other}, 0)
    assert not list(run.folder(tmp_path / "out" / "runs", both).glob("*.safetensors"))
    methods = {"plain": {}, "wise-ft": {"alpha": 1.0}}
    alone = load(tmp_path, image_config(images, methods=methods, seeds=[0], learning_rate=[other]))
    again, anew = compare(alone, tmp_path / "out"), compare(alone, tmp_path / "anew")
    assert figures(again) == figures(anew)
    assert not list((tmp_path / "out").glob("runs/*/checkpoint-*"))


@pytest.mark.slow
def test_every_setting_can_be_evaluated_with_every_seed(images, tmp_path):
    content = image_config(images, methods=["plain"], seeds=[0, 1], every_setting=True)
    content["training"] |= {"num_train_epochs": 1}
    config = load(tmp_path, content)
    results = compare(config, tmp_path / "out")
    assert len(results.runs) == len(config.learning_rate) * 2
    assert all(run.value("ood", "accuracy") is not None for run in results.runs)
    assert [len(there.chosen_runs("plain")) for there in at_rates(results).values()] == [2] * len(config.learning_rate)
    assert "What the learning rate costs" in (tmp_path / "out" / "report.md").read_text()
    chosen = compare(load(tmp_path, {**content, "every_setting": False}), tmp_path / "out")
    assert figures(chosen)[0] in figures(results)
    assert chosen.method("plain").chosen == results.method("plain").chosen
    weights = sorted(file.parent.name for file in (tmp_path / "out").glob("runs/*/model.safetensors"))
    assert weights == sorted(run.folder.removeprefix("runs/") for run in results.chosen_runs("plain"))


@pytest.mark.slow
@pytest.mark.parametrize(("best", "kept"), [({}, 4), ({"load_best_model_at_end": False}, 8)])
def test_weights_of_the_best_epoch_are_kept_or_of_the_last(images, tmp_path, best, kept):
    content = image_config(images, methods=["plain"], seeds=[0], learning_rate=[1e-12])
    content["training"] |= best
    summary = Runner(load(tmp_path, content), tmp_path / "out").train(Run("plain", {"learning_rate": 1e-12}, 0)).summary
    assert [row.metrics["accuracy"] for row in summary.log if row.metrics] == [
        summary.value("validation", "accuracy")
    ] * 2
    assert (summary.steps, summary.kept_step) == (8, kept), "of epochs that are as good the first is the best"


def test_what_a_trainer_makes_of_its_arguments_is_not_in_the_next_one(images, tmp_path):
    content = image_config(images, methods=["plain"], seeds=[0], learning_rate=[1e-3])
    content["training"] |= {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 2}}}
    runs = Runner(load(tmp_path, content), tmp_path / "out").trained
    trainers = [runs.make_trainer(Run("plain", {"learning_rate": 1e-3}, 0), tmp_path / name) for name in ("a", "b")]
    assert [trainer.args.gradient_accumulation_steps for trainer in trainers] == [2, 2]


@pytest.mark.slow
def test_the_time_of_an_interrupted_run_is_not_that_of_its_end(images, tmp_path):
    config = load(tmp_path, image_config(images, methods=["plain"], seeds=[0], learning_rate=[1e-3]))
    run, runner = Run("plain", {"learning_rate": 1e-3}, 0), Runner(config, tmp_path)

    def killed(share):
        if share == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.train(run, killed)
    resumed = runner.train(run).summary
    assert resumed.steps == 8
    assert resumed.hardware.total_seconds is None
    assert resumed.hardware.seconds_per_step > 0


@pytest.mark.slow
def test_several_processes_make_one_comparison(images, tmp_path):
    file = write_config(
        tmp_path, image_config(images, methods=["plain", "ftp", "tpgm"], learning_rate=[1e-3], seeds=[0])
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "ftp_hf", "compare", str(file), "--output_dir", str(tmp_path / "out")]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stderr.count("3/3") == 1
    results = ComparisonResults.load(tmp_path / "out")
    assert {run.summary.hardware.processes for run in results.runs} == {2}
    assert {run.summary.steps for run in results.runs} == {4}, "32 rows in 2 epochs of 2 × 8 rows a step"
    with pytest.raises(ValueError, match="was trained on 2 processes, but this comparison runs on 1"):
        compare(ComparisonConfig.load(file), tmp_path / "out")


def test_processes_that_would_not_join_are_refused(images, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"launched as 2 processes .* write use_cpu: true under training"):
        compare(load(tmp_path, image_config(images, training={"num_train_epochs": 1})), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_comes_to_the_same(images, tmp_path):
    methods = {"plain": {}, "ftp": {"learning_rate": 1e-2}, "wise-ft": {"alpha": 0.5}}
    content = image_config(images, methods=methods, seeds=[0])
    content["training"] |= {"num_train_epochs": 6, "per_device_train_batch_size": 4}
    file = write_config(tmp_path, content)
    expected = compare(ComparisonConfig.load(file), tmp_path / "whole")
    command = [sys.executable, "-m", "ftp_hf", "compare", str(file), "--output_dir", str(tmp_path / "killed")]
    killed = 0
    for files in (1, 4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            time.sleep(0.02)
            if (
                len(list((tmp_path / "killed").glob("runs/*/checkpoint-*/optimizer.pt")))
                + len(list((tmp_path / "killed").glob("runs/*/*.json")))
                >= files
            ):
                os.killpg(process.pid, signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert killed == 2
    assert figures(ComparisonResults.load(tmp_path / "killed")) == figures(expected)


def test_a_pretrained_head_is_read_by_the_names_of_its_classes(texts, tmp_path):
    shutil.copytree(texts / "model", tmp_path / "model")
    own = {"id2label": {0: "Positive", 1: "Negative"}, "label2id": {"Positive": 0, "Negative": 1}}
    AutoModelForSequenceClassification.from_pretrained(texts / "model", **own).save_pretrained(tmp_path / "model")
    content = image_config(texts, task="text-classification", model=str(tmp_path / "model"), ood=[])
    data = RunData(ComparisonConfig.load(write_config(tmp_path, content)))
    assert data.task.labels == ["positive", "negative"]
    assert not new_parameters(data.task.load_model())
    raw = Dataset.from_parquet(str(texts / "train.parquet"))
    assert data.train["label"][:] == [1 - label for label in raw["label"]]
    assert data.describe()[0] == "train: 32 rows of 2 classes: negative 16, positive 16"


@pytest.mark.slow
def test_texts(texts, tmp_path):
    content = {
        **image_config(texts, methods={"plain": {}, "ftp": {}}, seeds=[3]),
        "task": "text-classification",
        "ood": [str(texts / "songs.parquet")],
        "max_length": 8,
        "max_eval_samples": 10,
        "corruptions": {"kinds": ["keyboard_typos"], "severities": [3]},
    }
    results = compare(load(tmp_path, content), tmp_path / "out")
    for method in ("plain", "ftp"):
        (run,) = results.chosen_runs(method)
        sizes = {data.name: data.size for data in run.summary.data if data.kind != "train"}
        assert sizes == {"validation": 16, "test": 10, "songs": 10, "keyboard_typos/3": 10}


def test_two_comparisons_do_not_share_a_folder(images, tmp_path):
    with run_lock(tmp_path / "out"), pytest.raises(OSError, match="another"):
        compare(load(tmp_path, image_config(images)), tmp_path / "out")
