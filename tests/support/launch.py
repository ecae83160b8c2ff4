"""Training scripts in processes of their own, as a user starts them: real process groups, on gloo."""

import os
import subprocess
import sys
from pathlib import Path

WORKERS = Path(__file__).parent / "workers"


def environment():
    """The environment of a worker: one thread, no network, and the tests' and examples' modules at hand."""
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "examples")]
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
    if check and result.returncode:
        raise AssertionError(f"{script} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result
