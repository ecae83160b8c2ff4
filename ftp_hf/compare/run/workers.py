"""Processes on one machine that train and evaluate runs which need nothing of each other."""

import contextlib
import multiprocessing
import os
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch

from ftp_hf.common.allocation import keep_freed_memory
from ftp_hf.common.progress import quiet
from ftp_hf.compare.evidence.results import ComparedRun

from .config import ComparisonConfig
from .plan import Run
from .processes import join_processes
from .runner import Runner

__all__ = ["Workers"]

_GPUS = "CUDA_VISIBLE_DEVICES"


class Workers:
    """
    Processes that do what [`Runner`] does, a run at a time each. Where there are GPUs each has one of them, in turn; the
    threads of a CPU are divided. A process that dies takes its run with it and is replaced.

    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runs (`Path`): the folder of all runs.
        count (`int`): how many processes.
    """

    def __init__(self, config: ComparisonConfig, runs: Path, count: int) -> None:
        self._make = partial(_start_process, config, runs, count)
        self._free: queue.SimpleQueue[tuple[int, ProcessPoolExecutor]] = queue.SimpleQueue()
        for number in range(count):
            self._free.put((number, self._make(number)))
        self._threads = ThreadPoolExecutor(count)
        self._lock = threading.Lock()
        self._asked: dict[str, Future[ComparedRun]] = {}

    def ask(self, do: str, runs: Iterable[Run]) -> None:
        """
        Have something done to runs, each once, as soon as a process is free.

        Args:
            do (`str`): the method of [`Runner`] that does it.
            runs (iterable of [`Run`]): all that it needs is there.
        """
        for run in runs:
            self._future(do, run)

    def result(self, do: str, run: Run) -> ComparedRun:
        """
        What something that is done to a run comes to.

        Args:
            do (`str`): as for [`ask`].
            run ([`Run`]): likewise.

        Raises:
            ValueError: it has failed; names the run.
        """
        return self._future(do, run).result()

    def close(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        self._threads.shutdown(cancel_futures=True)
        while not self._free.empty():
            self._free.get()[1].shutdown()

    def _future(self, do: str, run: Run) -> Future[ComparedRun]:
        with self._lock:
            key = f"{do} {run!r}"
            if key not in self._asked:
                self._asked[key] = self._threads.submit(self._do, do, run)
            return self._asked[key]

    def _do(self, do: str, run: Run) -> ComparedRun:
        number, process = self._free.get()
        try:
            return process.submit(_in_process, do, run).result()
        except BrokenProcessPool as error:
            process.shutdown()
            process = self._make(number)
            raise ValueError(f"{run.describe()}: its process has died, for want of memory perhaps") from error
        except Exception as error:
            raise ValueError(f"{run.describe()}: {type(error).__name__}: {error}") from error
        finally:
            self._free.put((number, process))


def _start_process(config: ComparisonConfig, runs: Path, count: int, number: int) -> ProcessPoolExecutor:
    process = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), _begin, (config, runs, max(1, torch.get_num_threads() // count))
    )
    given = os.environ.get(_GPUS)
    gpus = given.split(",") if given else [*map(str, range(torch.cuda.device_count()))]
    if gpus:
        os.environ[_GPUS] = gpus[number % len(gpus)]
    try:
        process.submit(int)  # which starts it, as libraries may look for GPUs when they are imported
    finally:
        if given is not None:
            os.environ[_GPUS] = given
        elif gpus:
            del os.environ[_GPUS]
    return process


_runner: Runner
_for_good = contextlib.ExitStack()


def _begin(config: ComparisonConfig, runs: Path, threads: int) -> None:
    global _runner  # noqa: PLW0603 - of this process, which has nothing else to do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    keep_freed_memory()
    _for_good.enter_context(quiet())
    join_processes(config)
    _runner = Runner(config, runs)


def _end_with_parent() -> None:
    """However that ends: a run that goes on alone would keep the next comparison waiting."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _in_process(do: str, run: Run) -> ComparedRun:
    done: ComparedRun = getattr(_runner, do)(run)
    return done
