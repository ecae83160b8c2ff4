"""
A process that has imported what trainings import and forks for each job, a line of JSON on its standard input: to start a
process takes milliseconds then, not ten seconds. `tests.support.launch.fork` starts it.
"""

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import sys
import traceback

import peft  # noqa: F401
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.tensor  # noqa: F401
from transformers import Trainer  # noqa: F401

from ftp_hf import FTPSGD, FTPAdamW, FTPTrainer  # noqa: F401


def main():
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)


def run(script, args, processes, out, err):
    """The exit status of the first process that failed, for which the others are ended, or 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running, status = set(), 0
    for rank in range(processes):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if not (child := os.fork()):
            become(script, args, group if processes > 1 else {}, out, err)
        running.add(child)
    while running:
        ended, code = os.wait()
        running.remove(ended)
        if code and not status:
            status = os.waitstatus_to_exitcode(code)
            for other in running:
                os.kill(other, signal.SIGKILL)
    return status


def become(script, args, group, out, err):
    """In a child: the script, to its end."""
    for file, stream in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), stream)
    os.environ |= {name: str(value) for name, value in group.items()}
    sys.argv = [script, *args]
    code = 1
    with contextlib.suppress(BaseException):
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except BaseException:  # noqa: BLE001 - as Python does
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
