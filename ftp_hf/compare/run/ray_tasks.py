"""Runs as tasks of Ray, on all machines of a cluster."""

import logging
import math
import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftp_hf.compare.evidence.results import ComparedRun

from .config import ComparisonConfig
from .plan import Run
from .runner import Runner
from .workers import Lost, Workers, make_runner

__all__ = ["RayTasks"]


class RayTasks(Workers[Run, ComparedRun]):
    """
    A task for each run, on any machine that has room: with a GPU where there are GPUs, and with its share of the CPUs. All
    machines share the folder of the runs. The run of a worker or a machine that is lost goes on elsewhere, from its last
    checkpoint, up to three times.

    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runs (`Path`): the folder of all runs.
        address (`str`): of the cluster, as `ray.init` takes it.
        count (`int`, *optional*): how many tasks at once; by default as many as there are GPUs, or machines where there is
            none.

    Raises:
        ImportError: Ray is missing.
        OSError: there is no such cluster, or one of its machines does not see the folder.
        ValueError: `address` is none.
    """

    def __init__(self, config: ComparisonConfig, runs: Path, address: str, count: int | None = None) -> None:
        try:
            import ray  # noqa: PLC0415 - only these comparisons need it
        except ModuleNotFoundError as error:
            raise ImportError(f'{error}, which --ray needs: pip install "ftp-hf[ray]"') from error
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
        except ValueError as error:
            raise ValueError(f"--ray must be local, auto or HOST:PORT, got {address!r}: {error}") from error
        self._ray, self._mark = ray, runs.absolute() / f"_shared-{uuid.uuid4().hex}"
        try:
            machines = _machines(ray)
            count = count or sum(int(machine["Resources"].get("GPU", 0)) for machine in machines) or len(machines)
            gpus, cpus = _share(machines, count)
            self._task = ray.remote(num_cpus=cpus, num_gpus=gpus)(_in_task)
            self._begin = (config, self._mark, Path.cwd())
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
            self._check_shared(machines)
        except BaseException:
            self._leave()
            raise
        super().__init__(count)
        self._begun = set[Any]()

    def do(self, do: str, run: Run) -> ComparedRun:
        """As of [`Workers`]."""
        task = self._task.remote(do, run, *self._begin)
        self._begun.add(task)
        try:
            done: ComparedRun = self._get(task)
            return done
        finally:
            self._begun.remove(task)

    def stop(self) -> None:
        """As of [`Workers`]. Only a process of this machine hears of an interrupt."""
        for task in [*self._begun]:
            self._ray.cancel(task, force=True)
        self.close()

    def close(self) -> None:
        """As of [`Workers`]."""
        super().close()
        self._leave()

    def _leave(self) -> None:
        self._mark.unlink(missing_ok=True)
        self._ray.shutdown()

    def _check_shared(self, machines: list[dict[str, Any]]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        look = self._ray.remote(num_cpus=0)(_look)
        places = [NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False) for machine in machines]
        for looked in [look.options(scheduling_strategy=place).remote(self._mark) for place in places]:
            self._get(looked)

    def _get(self, done: Any) -> Any:
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415

        try:
            return self._ray.get(done)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise Lost(f"its worker was lost, each time: {error}") from error


def _machines(ray: Any) -> list[dict[str, Any]]:
    """Those that take part: the ones with GPUs, if there are any."""
    alive = [machine for machine in ray.nodes() if machine["Alive"]]
    able = ([machine for machine in alive if machine["Resources"].get(kind)] for kind in ("GPU", "CPU"))
    return next(filter(None, able), alive)


def _share(machines: list[dict[str, Any]], count: int) -> tuple[int, int]:
    """How many GPUs and CPUs a run has, of so many at once."""
    gpus = int(any(machine["Resources"].get("GPU", 0) for machine in machines))
    cpus = int(min(machine["Resources"].get("CPU", 1) for machine in machines))
    return gpus, max(1, cpus // math.ceil(count / len(machines)))


_runners: dict[Path, Runner] = {}
"""Of this worker, which Ray gives one run after the other."""


def _in_task(do: str, run: Run, config: ComparisonConfig, mark: Path, folder: Path) -> ComparedRun:
    if mark not in _runners:
        _look(mark)
        with suppress(OSError):  # where only names of the Hub are read, it need not be there
            os.chdir(folder)
        _runners.clear()
        _runners[mark] = make_runner(config, mark.parent)
    done: ComparedRun = getattr(_runners[mark], do)(run)
    return done


def _look(mark: Path) -> None:
    if not mark.is_file():
        raise OSError(
            f"{socket.gethostname()} does not see {mark.parent}: --output_dir has to be on storage that all machines of the "
            "cluster share, under the same path"
        )
