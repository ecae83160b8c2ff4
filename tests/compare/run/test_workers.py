"""Comparisons of which several runs are trained at once."""

import os
import threading
import time
from concurrent.futures import CancelledError
from contextlib import closing

import pytest
import torch

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.comparison import take_part
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.pool import Pool
from ftp_hf.compare.run.workers import Workers
from tests.support.comparing import figures
from tests.support.tiny_data import image_config, write_config

METHODS = {"plain": {}, "ftp": {}, "wise-ft": {"alpha": [0.5, 1.0]}, "small-lr": {"most": 1}}


def config(images, folder, **changes):
    content = image_config(images, methods=METHODS, **changes)
    content["training"]["num_train_epochs"] = 1
    return ComparisonConfig.load(write_config(folder, content))


@pytest.mark.slow
def test_they_come_to_the_same_and_one_that_fails_keeps_no_other(images, tmp_path):
    content = config(images, tmp_path)
    one_by_one = compare(content, tmp_path / "one")
    runs = tmp_path / "two" / "runs"
    runs.mkdir(parents=True)
    in_the_way = Run("ftp", {"learning_rate": 1e-2, "kappa": 1.0, "radius_lr": 0.01}, 0).folder(runs, content)
    in_the_way.write_text("a file where the run has its folder")
    with pytest.raises(ValueError, match=r"FTP, learning rate 0.01, kappa 1, radius lr 0.01, seed 0: .*Error"):
        compare(content, tmp_path / "two", jobs=2)
    in_the_way.unlink()
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("trained.json")}
    trained = [file.parent.name for file in before]
    # All of plain fine-tuning, with what follows from it, and FTP's other rate.
    assert {name for name in trained if "ftp" not in name} == {
        file.parent.name for file in (tmp_path / "one" / "runs").glob("plain-*/trained.json")
    }
    assert len([name for name in trained if "ftp" in name]) == 1
    results = compare(content, tmp_path / "two")
    assert figures(results) == figures(one_by_one)
    assert [method.chosen for method in results.methods] == [method.chosen for method in one_by_one.methods]
    assert {file: file.stat().st_mtime_ns for file in before} == before


class Seer:
    def look_up(self, variable):
        return os.environ.get(variable)

    def multiply(self, size):
        layer = torch.nn.Linear(size, size)
        layer(torch.randn(size, size)).sum().backward()
        return torch.get_num_threads(), bool(layer.weight.grad.isfinite().all())

    def sleep(self, begun):
        begun.touch()
        time.sleep(20)


@pytest.mark.slow
def test_a_process_begins_with_the_environment_of_now(monkeypatch):
    for value in ("first", "second"):  # whatever there was when the process was begun that others are forked from
        monkeypatch.setenv("FTP_HF_LOOKED_UP", value)
        with closing(Pool(Seer, 1)) as pool:
            assert pool.result("look_up", "FTP_HF_LOOKED_UP") == value


@pytest.mark.slow
def test_a_process_computes_on_its_threads():
    """Which it would wait for without end, had the one that it was forked from made some."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with closing(Pool(Seer, 1)) as pool:
            assert pool.result("multiply", 1000) == (2, True)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_who_interrupts_it_does_not_wait_for_what_was_begun(tmp_path):
    begun, waiting = [tmp_path / "one", tmp_path / "other"], tmp_path / "third"

    def interrupt():
        with Pool(Seer, 2) as pool:
            pool.ask("sleep", [*begun, waiting])
            while not all(file.exists() for file in begun):
                time.sleep(0.01)
            begun.append(time.monotonic())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert time.monotonic() - begun.pop() < 10
    assert not waiting.exists()


class Recorder(Workers):
    def __init__(self):
        super().__init__(1)
        self.has_begun, self.may_end, self.done = threading.Event(), threading.Event(), []

    def do(self, do, run):
        self.has_begun.set()
        self.may_end.wait(10)
        self.done.append((do, run))
        return run


def test_trainings_come_first_as_others_wait_for_what_they_come_to():
    workers = Recorder()
    with closing(workers):
        workers.ask("finish", ["a"])
        workers.has_begun.wait(10)
        workers.ask("finish", ["b", "c"])
        workers.ask("train", ["d", "e"])
        workers.may_end.set()
        assert [workers.result("finish", run) for run in "abc"] == ["a", "b", "c"]
    assert workers.done == [("finish", "a"), ("train", "d"), ("train", "e"), ("finish", "b"), ("finish", "c")]


def test_what_was_not_begun_is_given_up():
    workers = Recorder()
    workers.ask("finish", ["a"])
    workers.has_begun.wait(10)
    workers.ask("finish", ["b"])
    closed = threading.Thread(target=workers.close)
    closed.start()
    with pytest.raises(CancelledError):
        workers.result("finish", "b")
    workers.may_end.set()
    closed.join()
    assert workers.done == [("finish", "a")]


def no_runner():
    raise OSError("the Hub does not answer")


@pytest.mark.slow
def test_a_runner_that_cannot_be_made_is_no_process_that_died():
    with closing(Pool(no_runner, 1)) as pool, pytest.raises(OSError, match="the Hub does not answer"):
        pool.do("look_up", "anything")


def test_there_is_at_least_one(images, tmp_path):
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images)))
    for run in (compare, take_part):
        with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
            run(config, tmp_path / "out", jobs=0)
