"""Processes that are forked from one that has imported what they need: imports take longer than many a training of a few minutes."""

import multiprocessing
import sys
from multiprocessing import forkserver

__all__ = ["CAN_FORK", "begin_imports"]

CAN_FORK = sys.platform == "linux"
"""Elsewhere libraries of the system do not survive it."""


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
