"""Random numbers that are drawn beside a training."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["unchanged_randomness"]


@contextmanager
def unchanged_randomness(devices: list[torch.device] | None = None) -> Iterator[None]:
    """Restore the random states of Python, numpy and torch after the block, on CUDA those of `devices`; by default of all."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
