"""Comparisons whose methods keep pre-trained statistics, or start with a probed head."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ftp_hf.compare.run.comparison import compare
from ftp_hf.compare.run.config import ComparisonConfig
from ftp_hf.compare.run.plan import Run, base_of
from ftp_hf.compare.run.runner import Runner
from tests.support.tiny_data import image_config, write_config

METHODS = {"plain": {}, "linear-probe": {}, "ftp": {}, "wise-ft": {}, "lora": {}}
RUNS = Path("runs")
RATE = {"learning_rate": 1e-3}


def load(tmp_path, **changes):
    content = image_config(Path("data"), **{"methods": {**METHODS, "lp-ft": {}}, **changes})
    return ComparisonConfig.load(write_config(tmp_path, content))


def folders(config):
    plain, probe = Run("plain", RATE, 0), Run("linear-probe", RATE, 0)
    ftp = Run("ftp", {**RATE, "kappa": 1.0, "radius_lr": 1e-2}, 0)
    derived = Run("wise-ft", {"alpha": 0.5}, 0, plain)
    runs = [plain, probe, Run("lp-ft", RATE, 0, probe), derived, ftp, Run("lora", RATE, 1), Run("pre-trained", {}, 0)]
    return [run.folder(RUNS, config).name for run in runs]


def test_runs_of_before_are_found_again(tmp_path):
    """As they were called when there was neither option."""
    assert folders(load(tmp_path)) == [
        "plain-bb9a75a855-seed0",
        "linear-probe-2318eb8ba4-seed0",
        "lp-ft-a5cf17abac-seed0",
        "wise-ft-a376949ef1-seed0",
        "ftp-0e07daf200-seed0",
        "lora-443bfd7a79-seed1",
        "pre-trained-3b343b087a-seed0",
    ]


def test_runs_with_the_options_are_others(tmp_path):
    config = load(tmp_path)
    frozen = replace(config, freeze_statistics=True)
    assert not set(folders(config)) & set(folders(frozen))
    assert folders(config) == folders(replace(config, probe_first=True)), "it is the base that differs"


def test_every_method_that_trains_starts_from_the_probe(tmp_path):
    config = load(tmp_path, methods=METHODS, probe_first=True)
    assert {name: base_of(config, name) for name in METHODS} == {
        "plain": "linear-probe", "linear-probe": None, "ftp": "linear-probe", "wise-ft": "plain", "lora": "linear-probe"
    }  # fmt: skip
    assert base_of(replace(config, probe_first=False), "ftp") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ["plain"]}, "probe_first: the methods start with the head of 'linear-probe': add it to methods"),
        ({"methods": ["linear-probe", "lp-ft"]}, "probe_first: 'lp-ft' would be 'plain', which is probed first too"),
        ({"methods": 3}, "methods must be a list of names"),
        ({"probe_first": "yes"}, "probe_first must be true or false, got 'yes'"),
        ({"freeze_statistics": 1}, "freeze_statistics must be true or false, got 1"),
    ],
)
def test_what_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        load(tmp_path, **{"probe_first": True, "methods": METHODS, **changes})


def test_all_trainers_are_told(images, tmp_path):
    content = image_config(images, methods=["plain", "linear-probe", "ftp", "l2-sp"], freeze_statistics=True)
    runner = Runner(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path)
    for name in runner.config.methods:
        setting = {key: values[0] for key, values in runner.config.methods[name].items()}
        assert runner.trained.make_trainer(Run(name, setting, 0), tmp_path / name).freeze_statistics


@pytest.mark.slow
def test_a_comparison_of_probed_methods(images, tmp_path):
    methods = {"linear-probe": {"learning_rate": 0.1}, "plain": {"learning_rate": 1e-9}, "wise-ft": {"alpha": 0.5}}
    methods["lora"] = methods["plain"]
    content = image_config(images, methods=methods, seeds=[0], probe_first=True, freeze_statistics=True)
    content["training"] |= {"num_train_epochs": 1}
    results = compare(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path / "out")
    heads = {}
    for run in results.runs:
        folder = tmp_path / "out" / run.folder
        file = next(folder.glob("*model.safetensors"))
        heads[run.method] = next(t for name, t in load_file(file).items() if name.endswith("classifier.weight"))
        noted = yaml.safe_load((folder / "results.json").read_text())["hyperparameters"]
        assert noted.get("probe_first", False) == (run.method != "linear-probe")
        assert noted["freeze_statistics"]
    # At such a rate it stays where it starts.
    for method in ("plain", "wise-ft", "lora"):
        torch.testing.assert_close(heads[method], heads["linear-probe"], rtol=0, atol=1e-5)
