"""Processes that are forked from one that has imported what they need: imports take longer than many a training of a few minutes."""

import multiprocessing
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

__all__ = ["CAN_FORK", "begin_imports"]

CAN_FORK = sys.platform == "linux" and not any(Path(gpu).exists() for gpu in ("/dev/nvidiactl", "/dev/kfd"))
"""On other systems libraries do not survive it; nor does CUDA, which an import may have asked what GPUs there are."""


def begin_imports(module: str) -> None:
    """
    Import a module, in the background, in the process that others will be forked from. It is done once, and nothing happens
    where there are no forks.

    Raises:
        OSError: the process cannot be started.
    """
    if CAN_FORK:
        multiprocessing.set_forkserver_preload([module])
        try:
            forkserver.ensure_running()
        except OSError as error:  # of a path that sockets cannot have, say
            raise OSError(
                f"no process for several jobs can be started from {tempfile.gettempdir()}: {error}; name a shorter folder, which "
                "can be written to, in TMPDIR"
            ) from error
