"""Comparisons of which several processes do the runs, each on its own: locks, and the jobs of SLURM."""

import os
import subprocess
import sys
import threading

import pytest

from ftp_hf.cli import main
from ftp_hf.compare import ComparisonConfig, ComparisonResults, compare
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.processes import Elsewhere, working_alone
from ftp_hf.compare.run.slurm import sbatch_script
from ftp_hf.compare.run.workers import Workers
from tests.support.comparing import figures
from tests.support.tiny_data import image_config, write_config

SBATCH = """\
#!/bin/bash
# Runs all jobs of an array at the same time, and answers as sbatch does.
for word; do case $word in --array=1-*) count=${word#--array=1-};; esac; done
echo "${@:1:$#-2}" >> "$LOG"
for task in $(seq "${count:-1}"); do bash -c "${!#}" 2>> "$LOG.$task" >> "$LOG.said" & jobs="$jobs $!"; done
for job in $jobs; do wait "$job" || exit 1; done
echo "7;cluster"
"""


def in_a_thread(do):
    """What it returns, or the error that it raises."""
    got = []

    def catch():
        try:
            got.append(do())
        except Exception as error:  # noqa: BLE001
            got.append(error)

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    return got[0]


def test_who_works_on_a_run_may_enter_again_and_nobody_else(tmp_path):
    def enter(run="run"):
        with working_alone(tmp_path / run, wait=False):
            return "entered"

    with working_alone(tmp_path / "run"):
        assert enter() == "entered"
        assert isinstance(in_a_thread(enter), Elsewhere)
        assert in_a_thread(lambda: enter("other")) == "entered"
    assert in_a_thread(enter) == "entered"


class Sharing(Workers):
    """The first run is at first at work elsewhere."""

    def __init__(self):
        super().__init__(1)
        self.done = []

    def do(self, do, run):  # noqa: ARG002
        if run.seed == 0 and len(self.done) < 3:
            raise Elsewhere("plain")
        self.done.append(run.seed)
        return run.seed


def test_what_is_done_elsewhere_keeps_nothing_waiting(monkeypatch):
    monkeypatch.setattr("ftp_hf.compare.run.workers._PATIENCE", 0.01)
    workers, runs = Sharing(), [Run("plain", {}, seed) for seed in range(4)]
    workers.ask("train", runs)
    assert [workers.result("train", run) for run in runs] == [0, 1, 2, 3]
    assert workers.done == [1, 2, 3, 0]
    workers.close()


@pytest.mark.slow
def test_the_jobs_of_the_script_share_the_runs_and_come_to_the_same(images, tmp_path, capsys, monkeypatch):
    content = image_config(images, methods={"plain": {}, "ftp": {}, "wise-ft": {"alpha": [0.5]}}, learning_rate=[1e-3])
    content["training"]["num_train_epochs"] = 1
    file = write_config(tmp_path, content, "it's shared")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["compare", file.name, "--output_dir", "of many", "--methods", "plain,wise-ft,ftp", "--sbatch", "2"]) == 0
    )
    (tmp_path / "script.sh").write_text(capsys.readouterr().out)
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    environment = {**os.environ, "PATH": f"{sbatch.parent}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    subprocess.run(["/bin/bash", "script.sh", "--time=1:00:00"], check=True, env=environment, timeout=600)
    array, report = (tmp_path / "log").read_text().splitlines()
    assert array == "--parsable --job-name=it's shared --array=1-2 --time=1:00:00"
    assert report == "--dependency=afterany:7 --job-name=it's shared --time=1:00:00"
    one_by_one = compare(ComparisonConfig.load(file, methods=["plain", "wise-ft", "ftp"]), tmp_path / "one")
    assert figures(ComparisonResults.load(tmp_path / "of many")) == figures(one_by_one)
    assert (tmp_path / "log.said").read_text().count("report.html") == 1


def test_a_comparison_is_at_least_one_job():
    with pytest.raises(ValueError, match="sbatch must be at least 1, got 0"):
        sbatch_script(["ftp-hf", "compare"], "trial", 0)


def test_ray_is_named_where_it_is_missing(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("ftp_hf.compare.run.runner.Runner.check", lambda _: None)
    file = write_config(tmp_path, image_config(images))
    words = ["compare", str(file), "--output_dir", str(tmp_path / "out"), "--ray", "auto"]
    assert main(words) == 1
    assert 'which --ray needs: pip install "ftp-hf[ray]"' in capsys.readouterr().err
