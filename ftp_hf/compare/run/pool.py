"""Processes on one machine that do what is asked of them."""

import functools
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

import torch
from accelerate.utils import patch_environment
from datasets.fingerprint import fingerprint_rng

from .forked import CAN_FORK, begin_imports
from .workers import Asked, Done, Lost, Workers

__all__ = ["Pool"]

_GPUS = "CUDA_VISIBLE_DEVICES"

_starting = threading.Lock()
"""Held by the thread that has changed the environment for the process that it starts."""


class Pool(Workers[Asked, Done]):
    """
    Processes with a runner each. Where there are GPUs each has one of them, in turn; the threads of a CPU are divided. A
    process that dies takes its run with it and is replaced.

    Args:
        make_runner (callable): gives a process its [`Runner`], or another whose methods can be asked for.
        count (`int`): how many processes.
    """

    def __init__(self, make_runner: Callable[[], Any], count: int) -> None:
        super().__init__(count)
        # Of which nothing is read: the processes end when this end of it is closed.
        ended, self._alive = multiprocessing.Pipe(duplex=False)
        self._make = partial(_start_process, make_runner, count, ended)
        self._free: queue.SimpleQueue[tuple[int, ProcessPoolExecutor]] = queue.SimpleQueue()
        for number in range(count):
            self._free.put((number, self._make(number)))

    def do(self, do: str, run: Asked) -> Done:
        """As of [`Workers`]."""
        number, process = self._free.get()
        try:
            begun: Future[Done] = process.submit(_in_process, do, run)
            return begun.result()
        except BrokenProcessPool as error:
            process.shutdown()
            if not self._alive.closed:
                process = self._make(number)
            raise Lost("its process has died, perhaps because memory ran out: start again with fewer jobs") from error
        finally:
            self._free.put((number, process))

    def stop(self) -> None:
        """As of [`Workers`]."""
        self._alive.close()
        self.close()

    def close(self) -> None:
        """As of [`Workers`]."""
        super().close()
        while not self._free.empty():
            self._free.get()[1].shutdown()


def _context() -> BaseContext:
    if not CAN_FORK or torch.cuda.is_available():
        return multiprocessing.get_context("spawn")
    begin_imports(__name__)
    return multiprocessing.get_context("forkserver")


def _start_process(make_runner: Callable[[], Any], count: int, ended: Connection, number: int) -> ProcessPoolExecutor:
    threads = max(1, torch.get_num_threads() // count)
    with _starting, _a_gpu_alone(number):
        process = ProcessPoolExecutor(1, _context(), _begin, (make_runner, threads, dict(os.environ), ended))
        process.submit(_get_ready)  # which starts it, as libraries may look for GPUs when they are imported
    return process


def _a_gpu_alone(number: int) -> AbstractContextManager[None]:
    """Let what is started within the block see one of the GPUs, in turn, if there are any."""
    given = os.environ.get(_GPUS)
    gpus = given.split(",") if given else [*map(str, range(torch.cuda.device_count()))]
    return patch_environment(**{_GPUS: gpus[number % len(gpus)]}) if gpus else nullcontext()


_make_runner: Callable[[], Any]


def _begin(make_runner: Callable[[], Any], threads: int, environment: Mapping[str, str], ended: Connection) -> None:
    global _make_runner  # noqa: PLW0603 - of this process, which has nothing else to do
    _make_runner = make_runner
    # The process that it was forked from has an older environment, and all forks would give their cached data the same names.
    os.environ.update(environment)
    fingerprint_rng.seed()
    threading.Thread(target=_end_with_parent, args=(ended,), daemon=True).start()
    torch.set_num_threads(threads)


def _end_with_parent(ended: Connection) -> None:
    """
    End when the parent process stops or ends, in whatever way: a run that goes on alone would keep the next comparison
    waiting.
    """
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel, ended])
        os._exit(1)


@functools.cache
def _runner() -> Any:
    return _make_runner()


def _get_ready() -> None:
    """Make the runner. What fails here fails again when something is asked for, and is reported then."""
    _runner()


def _in_process(do: str, run: Any) -> Any:
    return getattr(_runner(), do)(run)
