"""Training scripts in processes of their own, as a user starts them: real process groups, on gloo."""

import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
WORKERS = Path(__file__).parent / "workers"


def environment():
    """The environment of a worker: one thread, no network, and the tests' and examples' modules at hand."""
    paths = [str(ROOT), str(ROOT / "examples")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def command(script, *args, processes=1, config=None):
    """
    The command line of `script` on so many processes, or by a config of accelerate; a name without a folder is one of
    tests/support/workers.
    """
    path = WORKERS / script if "/" not in str(script) else script
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    if config is not None:
        launcher = ["-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", processes]
    return [str(word) for word in (sys.executable, *launcher, path, *args)]


def start(script, *args, processes=1, **options):
    """Start it in a process group of its own, its output in pipes: a `Popen`."""
    return subprocess.Popen(
        command(script, *args, processes=processes),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def run(script, *args, processes=1, config=None, check=True, timeout=300):
    """Run it to its end. Raises with what it printed if it fails, unless `check=False`."""
    result = subprocess.run(
        command(script, *args, processes=processes, config=config),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return _checked(script, result) if check else result


def run_here(monkeypatch, script, *args):
    """Run a script of the repository in this process, which has imported already what takes the longest: its globals."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    monkeypatch.chdir(ROOT)
    return runpy.run_path(script, run_name="__main__")


def fork(script, *args, processes=1, timeout=300):
    """
    Run one of tests/support/workers to its end as [`run`] does, in forks of a process that has imported everything: for
    what is about the arithmetic of several processes, and not about how they are started.
    """
    if torch.cuda.is_available():  # which a fork could not use
        return run(script, *args, processes=processes, timeout=timeout)
    zygote = _zygote()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        job = {"script": str(WORKERS / script), "args": [*map(str, args)], "processes": processes}
        print(json.dumps({**job, "out": str(out), "err": str(err)}), file=zygote.stdin, flush=True)
        timer = threading.Timer(timeout, os.killpg, [zygote.pid, signal.SIGKILL])
        timer.start()
        status = zygote.stdout.readline()
        timer.cancel()
        if not status:
            _zygote.cache_clear()
        printed = [file.read_text() if file.is_file() else "" for file in (out, err)]
    return _checked(script, subprocess.CompletedProcess(job["args"], int(status or -signal.SIGKILL), *printed))


def _checked(script, result):
    if result.returncode:
        raise AssertionError(f"{script} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result


@functools.cache
def _zygote():
    """It ends with this process, which closes its standard input then."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py"))],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
