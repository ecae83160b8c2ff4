"""Who trains and evaluates runs which need nothing of each other, several at once."""

import contextlib
import itertools
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from typing_extensions import Self

from .allocation import keep_freed_memory, leaving_out_what_stays
from .config import ComparisonConfig
from .processes import Elsewhere, join_processes
from .progress import quiet
from .runner import Runner

__all__ = ["Lost", "Workers", "begin_worker", "make_runner"]

logger = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds until it is asked again whether another process has done with a run."""


class Work(Protocol):
    """What is done by one process: a [`Run`], say. Its representation tells it from others."""

    def describe(self) -> str:
        """In a few words."""


Asked = TypeVar("Asked", bound=Work)
Done = TypeVar("Done")


class Lost(Exception):  # noqa: N818 - what was lost is said in its message
    """The worker that was at work on a run has died."""


class Workers(ABC, Generic[Asked, Done]):
    """
    Do what [`Runner`] does, or another that does something to one thing after the other, with several at once: trainings first,
    as their results decide what is asked for next.

    Args:
        count (`int`): how many at once.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Done]] = {}
        # What has not started, in the order in which it will: what can wait comes after what cannot, then by number.
        self._waiting: queue.PriorityQueue[tuple[bool, int, str, Asked, Future[Done]]] = queue.PriorityQueue()
        self._count = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nobody who interrupts it wants to wait for hours."""
        self.stop() if kind is KeyboardInterrupt else self.close()

    @abstractmethod
    def do(self, do: str, run: Asked) -> Done:
        """
        Do something to a run, by the name of a method of [`Runner`], and wait for it. All that the run needs is there.

        Raises:
            Lost: the worker that did it has died.
        """

    def ask(self, do: str, runs: Iterable[Asked]) -> None:
        """Have something done to runs (see [`do`]), each once, as soon as there is room."""
        for run in runs:
            self._future(do, run)

    def result(self, do: str, run: Asked) -> Done:
        """
        The result of something that is done to a run (see [`do`]), also where another process of the comparison does it.

        Raises:
            ValueError: it has failed; names the run.
        """
        while True:
            try:
                return self._future(do, run).result()
            except Elsewhere:
                with self._lock:
                    self._asked.pop(_key(do, run), None)
            time.sleep(_PATIENCE)

    def close(self) -> None:
        """Start nothing new, and wait for what has started."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()[-1].cancel()
        self._threads.shutdown()

    def stop(self) -> None:
        """Start nothing new, and give up what has started; it can be resumed."""
        self.close()

    def _future(self, do: str, run: Asked) -> Future[Done]:
        with self._lock:
            key = _key(do, run)
            if key not in self._asked:
                self._asked[key] = Future()
                self._waiting.put((do != "train", next(self._count), do, run, self._asked[key]))
                self._threads.submit(self._do_most_urgent)
            return self._asked[key]

    def _do_most_urgent(self) -> None:
        try:
            _, _, do, run, future = self._waiting.get_nowait()
        except queue.Empty:  # it was cancelled
            return
        future.set_running_or_notify_cancel()
        try:
            future.set_result(self._do(do, run))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    def _do(self, do: str, run: Asked) -> Done:
        try:
            return self.do(do, run)
        except Elsewhere:
            raise
        except Lost as error:
            raise ValueError(f"{run.describe()}: {error}") from error
        except Exception as error:
            if not isinstance(error, OSError | ValueError):  # a bug, which shows where it is
                logger.exception("%s", run.describe())
            raise ValueError(f"{run.describe()}: {type(error).__name__}: {error}") from error


_for_good = contextlib.ExitStack()


def make_runner(config: ComparisonConfig, runs: Path, *, wait: bool = True) -> Runner:
    """The [`Runner`] of a process that has nothing else to do."""
    begin_worker(config)
    return Runner(config, runs, wait=wait)


def begin_worker(config: ComparisonConfig) -> None:
    """Set up a worker process: allocator, logging, warnings, distributed state."""
    keep_freed_memory()
    # The process that started this one reports on the data.
    logging.getLogger("ftp_hf.tasks").setLevel(logging.ERROR)
    _for_good.enter_context(quiet())
    _for_good.enter_context(leaving_out_what_stays())
    join_processes(config)


def _key(do: str, run: Work) -> str:
    return f"{do} {run!r}"
