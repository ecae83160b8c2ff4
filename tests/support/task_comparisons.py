"""Comparisons of a task from its config, whole and interrupted."""

import dataclasses

import pytest

from ftp_hf.common.records import plain
from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.drift import FunctionDistance
from ftp_hf.compare.run.measuring import expected_figures
from ftp_hf.compare.run.plan import Run, settings_of
from ftp_hf.compare.run.runner import Runner
from ftp_hf.runs.figures import figures_of
from tests.support.tiny_data import write_config

__all__ = ["compare_whole_and_interrupted", "save_sets", "task_config"]


def save_sets(folder, **sets):
    """Files of data sets, by their names; none is a copy of another, which is refused."""
    for name, data in sets.items():
        data.add_column("set", [name] * len(data)).to_parquet(folder / f"{name}.parquet")
    return {name: str(folder / f"{name}.parquet") for name in sets}


def task_config(folder, **changes):
    """A config as it is read from YAML: three methods with four steps each, on the data sets in a folder."""
    return {
        "model": str(folder / "model"),
        "train": str(folder / "train.parquet"),
        "validation": str(folder / "validation.parquet"),
        "test": str(folder / "test.parquet"),
        "ood": [str(folder / "ood.parquet")],
        "retained": [str(folder / "retained.parquet")],
        "learning_rate": [1e-3],
        "seeds": [0],
        "methods": {"plain": {}, "ftp": {}, "wise-ft": {"alpha": 0.5}},
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "use_cpu": True},
        **changes,
    }


def compare_whole_and_interrupted(content, folder):
    """
    The results of a comparison, of which those of the first method come out the same where its run is interrupted in the
    second epoch.
    """
    config = ComparisonConfig.load(write_config(folder, content))
    whole = compare(config, folder / "whole")
    first = next(iter(config.methods))

    def interrupt(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(config, folder / "interrupted" / "runs").train(
            Run(first, settings_of(config, first)[0], config.sweep_seed), interrupt
        )
    assert list((folder / "interrupted").glob("runs/*/checkpoint-*"))
    resumed = compare(dataclasses.replace(config, methods={first: config.methods[first]}), folder / "interrupted")
    for run, other in zip(whole.runs[: len(resumed.runs)], resumed.runs, strict=True):
        assert (run.method, run.setting, run.seed) == (other.method, other.setting, other.seed)
        assert [plain(result) for result in run.summary.results] == [plain(result) for result in other.summary.results]
    check_figures_are_those_expected(config, whole, folder)
    return whole


def check_figures_are_those_expected(config, results, folder):
    """By which rules are refused before anything is trained."""
    data = Runner(config, folder / "runs").data
    distance = FunctionDistance(data.task, data.task.load_model()).metric
    expected = {name: set(metrics) for name, metrics in expected_figures(data, distance).items()}
    for run in filter(lambda run: run.drift, results.runs):
        measured = {name: set(metrics) for name, metrics in figures_of(run.summary.results).items()}
        assert measured == expected, run.method
