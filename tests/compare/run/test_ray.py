"""Comparisons on a cluster of Ray: two of its nodes, both on this machine, and a stand-in for what needs no cluster."""

import os
import signal
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.folder import TRAINED, read_run
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.ray_tasks import RayTasks
from tests.support.comparing import figures
from tests.support.tiny_data import image_config, write_config

EPOCHS = 6


@pytest.fixture(scope="module")
def cluster():
    testing = pytest.importorskip("ray.cluster_utils", reason='ray is not installed: pip install "ftp-hf[ray]"')
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = testing.Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


def kill_first(runs, killed):
    """Kill the process that holds the first run which has a checkpoint, and say which run that is."""
    while not killed:
        for checkpoint in runs.glob("*/checkpoint-*/checksums.json"):
            lock = checkpoint.parents[1] / "_turn.lock"
            for opened in Path("/proc").glob("[0-9]*/fd/*"):
                try:
                    is_lock = opened.readlink() == lock
                except OSError:
                    continue
                if is_lock and int(opened.parts[2]) != os.getpid():
                    os.kill(int(opened.parts[2]), signal.SIGKILL)
                    killed[lock.parent] = (lock.parent / "trained.json").is_file()
                    return
        time.sleep(0.01)


def test_what_is_no_address_is_named(images, tmp_path):
    pytest.importorskip("ray", reason='ray is not installed: pip install "ftp-hf[ray]"')
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images)))
    with pytest.raises(ValueError, match=r"^--ray must be local, auto or HOST:PORT, got '': "):
        RayTasks(config, tmp_path / "runs", "")


@pytest.mark.slow
def test_a_worker_is_killed_in_mid_run_and_it_comes_to_the_same(cluster, images, tmp_path):
    content = image_config(images, methods={"plain": {}, "ftp": {}, "wise-ft": {"alpha": [0.5]}}, learning_rate=[1e-3])
    content["training"]["num_train_epochs"] = EPOCHS
    config = ComparisonConfig.load(write_config(tmp_path, content))
    killed = {}
    killing = threading.Thread(target=kill_first, args=(tmp_path / "ray" / "runs", killed))
    killing.start()
    results = compare(config, tmp_path / "ray", ray=cluster.address)
    killing.join()
    ((run, had_finished),) = killed.items()
    assert not had_finished
    assert read_run(run / TRAINED).summary.hardware.total_seconds is None  # as it was resumed
    assert figures(results) == figures(compare(config, tmp_path / "one"))
    assert not [*(tmp_path / "ray" / "runs").glob("_shared-*")]


class StandIn(ModuleType):
    """What is asked of Ray, done at once and here."""

    def __init__(self, *machines):
        super().__init__("ray")
        self.machines, self.asked, self.fails = machines, [], None
        self.exceptions, self.scheduling = ModuleType("ray.exceptions"), ModuleType("ray.util.scheduling_strategies")
        self.exceptions.RayError = type("RayError", (Exception,), {})
        self.exceptions.RayTaskError = type("RayTaskError", (self.exceptions.RayError,), {})
        self.scheduling.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)

    def init(self, address, **_):
        self.address = address

    def shutdown(self):
        self.address = None

    def nodes(self):
        return [{"NodeID": number, "Alive": True, "Resources": machine} for number, machine in enumerate(self.machines)]

    def remote(self, **resources):
        self.asked.append(resources)

        def of(function):
            task = SimpleNamespace(remote=partial(partial, function))
            task.options = lambda **_: task
            return task

        return of

    def get(self, task):
        if self.fails:
            raise self.fails
        try:
            return task()
        except OSError as error:
            wrapped = self.exceptions.RayTaskError("with the trace of the worker")
            wrapped.cause = error
            raise wrapped from None


@pytest.fixture
def ray(monkeypatch):
    def put(*machines):
        ray = StandIn(*machines)
        for module in (ray, ray.exceptions, ray.scheduling):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return ray

    return put


@pytest.mark.parametrize(
    ("machines", "count", "resources"),
    [
        ([{"CPU": 8.0}, {"CPU": 8.0}], None, (8, 0)),  # one each
        ([{"CPU": 8.0}, {"CPU": 6.0}], 4, (3, 0)),
        ([{"CPU": 2.0}], 5, (1, 0)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 64.0}], None, (2, 1)),
        ([{"CPU": 8.0, "GPU": 1.0}, {}], None, (8, 1)),
    ],
)
def test_what_a_run_is_given(ray, tmp_path, machines, count, resources):
    ray = ray(*machines)
    RayTasks(None, tmp_path / "runs", "auto", count).close()
    cpus, gpus = resources
    assert ray.asked[0] == {"num_cpus": cpus, "num_gpus": gpus}
    assert ray.address is None
    assert not [*(tmp_path / "runs").iterdir()]


def test_a_machine_that_does_not_see_the_folder_is_named(ray, tmp_path, monkeypatch):
    ray = ray({"CPU": 1.0})
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(OSError, match=r"does not see .*runs: --output_dir has to be on storage that all machines"):
        RayTasks(None, tmp_path / "runs", "auto")
    assert ray.address is None


def test_a_run_that_fails_or_whose_workers_are_lost_is_named(ray, tmp_path):
    ray, run = ray({"CPU": 1.0}), Run("plain", {"learning_rate": 0.1}, 3)
    with closing(RayTasks(None, tmp_path / "runs", "auto")) as tasks:
        [mark] = (tmp_path / "runs").iterdir()
        mark.unlink()
        with pytest.raises(ValueError, match=r"plain fine-tuning, learning rate 0.1, seed 3: OSError: .* does not see"):
            tasks.result("train", run)
        ray.fails = ray.exceptions.RayError("The worker died")
        with pytest.raises(ValueError, match="seed 3: its worker was lost, each time: The worker died"):
            tasks.result("finish", run)
