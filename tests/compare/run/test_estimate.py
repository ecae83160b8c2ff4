"""How long a comparison would take: what is measured, and what that is multiplied by."""

import itertools

import pytest

from ftp_hf.cli import main
from ftp_hf.compare.run import estimate as estimates
from ftp_hf.compare.run.config import ComparisonConfig
from ftp_hf.compare.run.estimate import Estimate, estimate
from ftp_hf.compare.run.runner import Runner
from tests.support.tiny_data import image_config, write_config


def test_the_estimate_in_words():
    seconds, memory = {"plain": 600.0, "ftp": 900.0, "small-lr": 300.0}, {"plain": 2**30, "ftp": 3 * 2**29}
    said = Estimate(seconds, 60.0, memory, "CPU (any)", is_most=True).describe().replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith(
        "It would take at most about 31.0 min in all: plain fine-tuning 10.0 min, FTP 15.0 min, small learning rate 5.0 min; "
        "evaluation 60 s. Memory: up to 1.50 GiB (FTP). An estimate from 3 steps of each method and 4 batches of each kind of "
        "data on CPU (any), for one run at a time; "
    )
    assert Estimate({"plain": 1.0}, 1.0).describe().startswith("It would take about 2")


@pytest.mark.slow
def test_each_run_counts_with_its_steps_epochs_and_data(images, tmp_path, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(estimates, "_now", lambda: float(next(ticks)))
    methods = {"plain": {}, "ftp": {"learning_rate": 1e-2}, "wise-ft": {"alpha": [0.3, 0.6]}, "small-lr": {"most": 3}}
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=methods)))
    found = estimate(Runner(config, tmp_path / "runs"))
    # A run: a tick before its 8 steps, one for each of them, and one for the validation data after each of 2 epochs.
    each = 1 + 8 + 2
    assert found.training == {"plain": 3 * each, "ftp": 2 * each, "small-lr": 4 * each}
    assert found.is_most
    # A model: the test and the OOD set, and on both of them how differently it answers; itself and the pre-trained one.
    model = 2 + 2 + 2
    chosen, interpolated, sensitivities = 3 * 2, 2 * 2, 3
    assert found.evaluation == (chosen + interpolated) * model + interpolated + sensitivities
    assert found.memory.keys() == {"plain", "ftp"}
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


@pytest.mark.slow
def test_the_command_measures_and_leaves_nothing(images, tmp_path, capsys):
    content = image_config(images, methods=["plain"], seeds=[0])
    content["training"] = {"max_steps": 3, "use_cpu": True}
    file = write_config(tmp_path, content)
    assert main(["compare", str(file), "--output_dir", str(tmp_path / "out"), "--estimate"]) == 0
    plan, said = capsys.readouterr().err.splitlines()[-2:]
    assert plan.startswith("2 runs to train (plain fine-tuning 2)")
    assert said.startswith("It would take about ")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
