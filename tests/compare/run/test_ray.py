"""Comparisons on a cluster of Ray, of two machines that are two of its nodes on this one."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.folder import TRAINED, read_run
from tests.support.comparing import figures
from tests.support.tiny_data import image_config, write_config

EPOCHS = 12


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
