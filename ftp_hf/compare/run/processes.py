"""The processes of a launcher, and those that would train the same runs at once."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout

from ftp_hf.common.processes import from_first_process

from .allocation import free_memory, keep_freed_memory
from .config import ComparisonConfig

__all__ = ["Elsewhere", "begin", "join_processes", "make_once", "working_alone"]

_LOCK = "_turn.lock"


def join_processes(config: ComparisonConfig) -> PartialState:
    """
    The processes of a launcher, as the Trainers will join them.

    Raises:
        ValueError: they would not join, so that each would make the whole comparison.
    """
    state = PartialState(cpu=bool(config.training.get("use_cpu", False)))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != state.num_processes:
        # Without an accelerator processes join each other only if they are told to use the CPU.
        raise ValueError(
            f"launched as {launched} processes that would each make the whole comparison: on CPUs, write use_cpu: true "
            "under training"
        )
    return state


def begin(config: ComparisonConfig, jobs: int | None = None, *, launched_too: bool = True) -> bool:
    """
    Join the processes of a launcher, to train one run after the other together, and return whether this is the first one.
    `jobs` is how many runs are asked for at once.

    Raises:
        ValueError: `jobs` is below 1, or there are several processes and `launched_too` is `False`.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    keep_freed_memory()
    state = join_processes(config)
    if state.num_processes > 1 and not launched_too:
        raise ValueError(
            f"{state.num_processes} processes were launched, which train each run together: leave out jobs, ray and share"
        )
    first: bool = state.is_main_process
    return first


class Elsewhere(Exception):  # noqa: N818 - it is none
    """Another process is at work on the run."""


@contextmanager
def working_alone(run: Path, *, wait: bool = True) -> Iterator[None]:
    """
    Let no other process of the comparison, on any machine, work in the folder of a run within the block. A process that works
    on it already may enter again.

    Raises:
        Elsewhere: another process works on it, and `wait` is `False`.
    """
    if PartialState().num_processes > 1:  # which train it together
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(run / _LOCK, is_singleton=True).acquire(blocking=wait)
    except Timeout:
        raise Elsewhere(run.name) from None
    with held:
        yield


def make_once(file: Path, make: Callable[[], None], *, wait: bool = True) -> None:
    """
    Make a file in the folder of a run, unless it is there: alone, together with the processes of a launcher. `wait` is as for
    [`working_alone`].
    """
    if from_first_process(file.is_file()):
        return
    with working_alone(file.parent, wait=wait):
        if not from_first_process(file.is_file()):
            file.parent.mkdir(parents=True, exist_ok=True)
            make()
            free_memory()
