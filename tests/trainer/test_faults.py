"""What really happens to runs, in processes of their own: each fault ends in a clear error or in a correct resume."""

import shutil
import signal
import time

import pytest
import torch

from ftp_hf.checkpoints.whole import find_damage, list_checkpoints
from tests.support import launch
from tests.support.equal import assert_equal
from tests.support.workers.finetune_tiny import OUTCOME, make_trainer, outcome, resume

pytestmark = pytest.mark.slow

WORKER = "finetune_tiny.py"
CUT_SHORT = "its save was cut short (checksums.json is missing)"


@pytest.fixture(scope="module")
def undisturbed(pretrained, tmp_path_factory):
    """A finished run, and its outcome."""
    folder = tmp_path_factory.mktemp("undisturbed")
    trainer = make_trainer(pretrained, folder)
    trainer.train()
    return folder, outcome(trainer)


def assert_resumes(pretrained, run, step, expected):
    """Resuming starts from the checkpoint of `step`, and ends where the undisturbed run did."""
    trainer = make_trainer(pretrained, run)
    assert resume(trainer) == step
    assert_equal(outcome(trainer), expected)


def damages(run):
    return {path.name: find_damage(path) for path in list_checkpoints(run)}


def test_sigterm_during_a_step(pretrained, undisturbed, tmp_path):
    ended = launch.run(WORKER, pretrained, tmp_path, "--fault", "terminate", 3, check=False)
    assert ended.returncode == -signal.SIGTERM
    assert damages(tmp_path) == {"checkpoint-2": None}
    assert_resumes(pretrained, tmp_path, 2, undisturbed[1])


def test_sigterm_during_a_step_with_just_in_time_checkpoints(pretrained, undisturbed, tmp_path):
    launch.run(WORKER, pretrained, tmp_path, "--just_in_time", "--fault", "terminate", 2)
    assert damages(tmp_path) == {"checkpoint-3": None, "checkpoint-2": None}
    assert_resumes(pretrained, tmp_path, 3, undisturbed[1])


def test_kill_during_a_save(pretrained, undisturbed, tmp_path, caplog):
    ended = launch.run(WORKER, pretrained, tmp_path, "--fault", "kill_in_save", 3, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert damages(tmp_path) == {"checkpoint-4": CUT_SHORT, "checkpoint-2": None}
    assert_resumes(pretrained, tmp_path, 2, undisturbed[1])
    assert f"{tmp_path / 'checkpoint-4'} ({CUT_SHORT})" in caplog.text


def test_one_byte_of_the_optimizer_state(pretrained, undisturbed, tmp_path, caplog):
    run = shutil.copytree(undisturbed[0], tmp_path / "run")
    with (run / "checkpoint-6" / "optimizer.pt").open("r+b") as file:
        file.seek(20_000)
        byte = file.read(1)
        file.seek(20_000)
        file.write(bytes([byte[0] ^ 1]))
    torch.load(run / "checkpoint-6" / "optimizer.pt")  # which torch does not notice
    assert_resumes(pretrained, run, 4, undisturbed[1])
    assert f"{run / 'checkpoint-6'} (the checksum of optimizer.pt differs)" in caplog.text


def test_a_truncated_file(pretrained, undisturbed, tmp_path, caplog):
    run = shutil.copytree(undisturbed[0], tmp_path / "run")
    with (run / "checkpoint-6" / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert_resumes(pretrained, run, 4, undisturbed[1])
    assert f"{run / 'checkpoint-6'} (model.safetensors has 1000 bytes instead of" in caplog.text


def test_two_runs_in_one_folder(pretrained, undisturbed, tmp_path):
    first = launch.start(WORKER, pretrained, tmp_path, "--fault", "wait_for_permission", 3)
    try:
        while not (tmp_path / "waiting").exists():
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.02)
        second = make_trainer(pretrained, tmp_path)
        with pytest.raises(OSError, match=r"another run is training in .*give this run another output_dir"):
            second.train()
        assert second.state.global_step == 0
        (tmp_path / "go").touch()
        printed, _ = first.communicate(timeout=120)
        assert first.returncode == 0, printed
    finally:
        first.kill()
    assert damages(tmp_path) == {"checkpoint-6": None, "checkpoint-4": None, "checkpoint-2": None}
    assert_equal(torch.load(tmp_path / OUTCOME), undisturbed[1])


def test_two_processes_of_which_one_is_killed_or_finds_the_disk_full(pretrained, tmp_path):
    runs = {name: tmp_path / name for name in ("undisturbed", "killed", "full")}
    killed = launch.run(WORKER, pretrained, runs["killed"], "--fault", "kill_last_process", 2, processes=2, check=False)
    assert "Signal 9 (SIGKILL)" in killed.stderr
    assert damages(runs["killed"]) == {"checkpoint-2": None}

    full = launch.run(WORKER, pretrained, runs["full"], "--fault", "fill_disk", 3, processes=2, check=False)
    assert f"OSError: {runs['full'] / 'checkpoint-4'} could not be saved" in full.stderr
    assert f"goes on from {runs['full'] / 'checkpoint-2'}" in full.stderr
    assert damages(runs["full"]) == {"checkpoint-4": CUT_SHORT, "checkpoint-2": None}

    resumed = launch.run(WORKER, pretrained, *runs.values(), "--resume", processes=2, check=False)
    if "restore data location of torch.storage.UntypedStorage (tagged with cpu:0)" in resumed.stderr:
        pytest.skip("this version of transformers does not resume on the CPU in several processes")
    assert resumed.returncode == 0, resumed.stderr
    expected = torch.load(runs["undisturbed"] / OUTCOME)
    for run in (runs["killed"], runs["full"]):
        assert damages(run) == {"checkpoint-6": None, "checkpoint-4": None, "checkpoint-2": None}
        assert_equal(torch.load(run / OUTCOME), expected)
