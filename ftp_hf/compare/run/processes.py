"""The processes of a launcher, and those that would train the same runs at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock

from .config import ComparisonConfig

__all__ = ["join_processes", "training_alone"]

_LOCK = "_turn.lock"


def join_processes(config: ComparisonConfig) -> PartialState:
    """
    The processes of a launcher, as the Trainers will join them.

    Args:
        config ([`ComparisonConfig`]): says whether they use the CPU.

    Raises:
        ValueError: they would not, so that each would make the whole comparison.
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


@contextmanager
def training_alone(run: Path) -> Iterator[None]:
    """
    Wait until no other job of the comparison trains a run, and let none train it within the block.

    Args:
        run (`Path`): its folder.
    """
    if PartialState().num_processes > 1:  # which train it together
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with FileLock(run / _LOCK):
        yield
