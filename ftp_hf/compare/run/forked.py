"""Processes that are forked from one that has imported what they need: imports take longer than many a training of a few minutes."""

import multiprocessing
import sys
from multiprocessing import forkserver
from pathlib import Path

__all__ = ["CAN_FORK", "begin_imports"]

CAN_FORK = sys.platform == "linux" and not any(Path(gpu).exists() for gpu in ("/dev/nvidiactl", "/dev/kfd"))
"""On other systems libraries do not survive it; nor does CUDA, which an import may have asked what GPUs there are."""


def begin_imports(module: str) -> None:
    """
    Let a module be imported by the process that others will be forked from, beside what this one does until it needs them.
    It is done once; where there are no forks, nothing is.

    Args:
        module (`str`): its name.
    """
    if CAN_FORK:
        multiprocessing.set_forkserver_preload([module])
        forkserver.ensure_running()
