"""Processes on one machine that train and evaluate runs."""

import multiprocessing
import os
import queue
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch

from ftp_hf.compare.evidence.results import ComparedRun

from .config import ComparisonConfig
from .plan import Run
from .runner import Runner
from .workers import Lost, Workers, make_runner

__all__ = ["Pool"]

_GPUS = "CUDA_VISIBLE_DEVICES"


class Pool(Workers):
    """
    Processes with a runner each. Where there are GPUs each has one of them, in turn; the threads of a CPU are divided. A
    process that dies takes its run with it and is replaced.

    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runs (`Path`): the folder of all runs.
        count (`int`): how many processes.
        wait (`bool`, *optional*, defaults to `True`): for a run that another process is at work on; otherwise others come
            first.
    """

    def __init__(self, config: ComparisonConfig, runs: Path, count: int, *, wait: bool = True) -> None:
        super().__init__(count)
        self._make = partial(_start_process, config, runs, count, wait)
        self._free: queue.SimpleQueue[tuple[int, ProcessPoolExecutor]] = queue.SimpleQueue()
        for number in range(count):
            self._free.put((number, self._make(number)))

    def do(self, do: str, run: Run) -> ComparedRun:
        """As of [`Workers`]."""
        number, process = self._free.get()
        try:
            return process.submit(_in_process, do, run).result()
        except BrokenProcessPool as error:
            process.shutdown()
            process = self._make(number)
            raise Lost("its process has died, for want of memory perhaps") from error
        finally:
            self._free.put((number, process))

    def close(self) -> None:
        """As of [`Workers`]."""
        super().close()
        while not self._free.empty():
            self._free.get()[1].shutdown()


def _start_process(
    config: ComparisonConfig,
    runs: Path,
    count: int,
    wait: bool,
    number: int,
) -> ProcessPoolExecutor:
    threads = max(1, torch.get_num_threads() // count)
    process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (config, runs, threads, wait))
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


def _begin(config: ComparisonConfig, runs: Path, threads: int, wait: bool) -> None:
    global _runner  # noqa: PLW0603 - of this process, which has nothing else to do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _runner = make_runner(config, runs, wait=wait)


def _end_with_parent() -> None:
    """However that ends: a run that goes on alone would keep the next comparison waiting."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _in_process(do: str, run: Run) -> ComparedRun:
    done: ComparedRun = getattr(_runner, do)(run)
    return done
