"""Trainings in trackers: which runs there are, what they are called, and what they hold."""

import os
import sys
from types import SimpleNamespace

import pytest
import yaml

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.trackers import tracked, tracker_arguments
from ftp_hf.compare.stream.config import StreamConfig
from ftp_hf.compare.stream.stages import StageRuns
from tests.support.pages import ROOT, blocks
from tests.support.tiny_data import image_config, write_config
from tests.support.tiny_streams import chain

NAME = "plain/learning_rate=0.01/seed=0"


def load(folder, images, training=None, **changes):
    content = image_config(images, seeds=[0, 1], learning_rate=[1e-2], **changes)
    content["training"] |= {"num_train_epochs": 1, "per_device_train_batch_size": 16, "logging_steps": 1}
    content["training"] |= training or {}
    return ComparisonConfig.load(write_config(folder, content))


@pytest.mark.slow
def test_tensorboard_has_one_run_for_each_that_was_trained(images, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    config = load(
        tmp_path, images, {"report_to": "tensorboard"}, methods={"plain": {}, "ftp": {}, "wise-ft": {"alpha": 0.5}}
    )
    compare(config, tmp_path / "out")
    events = {
        file.parent.relative_to(tmp_path / "out" / "tensorboard").as_posix(): file
        for file in (tmp_path / "out" / "tensorboard").rglob("events.*")
    }
    radii = "ftp/learning_rate=0.01,kappa=1,radius_lr=0.01"
    assert sorted(events) == [f"{radii}/seed=0", f"{radii}/seed=1", NAME, NAME.replace("seed=0", "seed=1")]
    for name, file in events.items():
        read = EventAccumulator(str(file))
        read.Reload()
        assert [event.step for event in read.Scalars("train/loss")] == [1, 2]
        assert [event.step for event in read.Scalars("eval/accuracy")] == [2]
        assert ("train/ftp_radius_max" in read.Tags()["scalars"]) == name.startswith("ftp")
    compare(load(tmp_path, images, methods={"plain": {}}), tmp_path / "out")  # finished, whether watched or not
    assert all(file.is_file() for file in events.values())
    assert len([*(tmp_path / "out" / "runs").glob("plain-*")]) == 2


def test_how_a_training_is_watched_defines_no_run(images, tmp_path):
    def folder(**training):
        return Run("plain", {"learning_rate": 1e-2}, 0).folder(tmp_path, load(tmp_path, images, training))

    assert folder(report_to=["tensorboard"], project="mine", run_name="mine") == folder()
    assert folder(logging_strategy="epoch", logging_first_step=True) == folder()
    (page,) = (block for block in blocks(ROOT / "docs" / "compare.md", "yaml") if "report_to" in block)
    assert folder(**yaml.safe_load(page)["training"]) == folder()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("wandbb", "training: report_to: wandbb is not supported"),
        (
            ["tensorboard", "dvclive"],
            "training: report_to: 'dvclive' is not installed; of those that are there is tensorboard",
        ),
        (5, "training: report_to must be a text or a list of texts, got 5"),
    ],
)
def test_trackers_that_are_not_there_are_refused(images, tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, images, {"report_to": value})


def test_each_run_of_wandb_is_one_of_its_group(tmp_path, monkeypatch):
    ended = []
    wandb = SimpleNamespace(finish=lambda: ended.append("run"), teardown=lambda: ended.append("all"))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    ids = []
    for out, seed in (("a", 0), ("a", 0), ("a", 1), ("b", 0)):
        run = tmp_path / out / "runs" / f"plain-0123456789-seed{seed}"
        with tracked({"report_to": "wandb"}, "digits", NAME, run, resumes=False):
            assert os.environ["WANDB_RUN_GROUP"] == "digits"
            ids.append(os.environ["WANDB_RUN_ID"])
    assert ids[0] == ids[1]
    assert len({*ids}) == 3
    assert ended == ["run", "all"] * 4
    assert os.environ["WANDB_RUN_ID"] == "mine"
    assert "WANDB_RUN_GROUP" not in os.environ


@pytest.mark.parametrize("resumes", [True, False])
def test_a_training_from_the_start_takes_the_place_of_one_of_its_name(tmp_path, resumes):
    event = tmp_path / "tensorboard" / NAME / "event"
    event.parent.mkdir(parents=True)
    event.touch()
    with tracked({"report_to": "tensorboard"}, "digits", NAME, tmp_path / "runs" / "plain", resumes=resumes):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(event.parent)
        assert event.is_file() == resumes


@pytest.mark.parametrize("training", [{}, {"report_to": "none"}, {"report_to": []}])
def test_what_is_not_tracked_is_as_before(tmp_path, training):
    assert tracker_arguments(training, "digits", NAME) == {}
    before = dict(os.environ)
    with tracked(training, "digits", NAME, tmp_path / "runs" / "plain", resumes=False):
        assert dict(os.environ) == before


def test_the_name_of_a_group_may_be_said():
    given = tracker_arguments({"report_to": "trackio", "project": "mine"}, "digits", NAME)
    assert given == {"report_to": ["trackio"], "project": "mine", "run_name": NAME}


def test_stages_of_a_stream_that_train_alike_have_names_of_their_own(images, tmp_path):
    content = image_config(images, validation=None, ood=None, learning_rate=[1e-2], seeds=[0])
    content |= {"validation_fraction": 0.5, "stages": {"a": "train", "b": "pale"}, "methods": ["plain", "replay"]}
    content |= {"train": f"{images}/{{stage}}.parquet", "test": f"{images}/test.parquet?label={{stage}}"}
    config = StreamConfig.load(write_config(tmp_path, content))
    runs = [run for method in ("plain", "replay") for run in chain(config, method, ["a", "b"], 0)]
    names = [StageRuns.tracked_name(SimpleNamespace(config=run.config), run) for run in runs]
    assert names == [f"a/{NAME}", f"a+b/{NAME}", f"a/{NAME}", f"a+b/replayed/{NAME}"]
