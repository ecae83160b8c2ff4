"""What a training takes: the time of its steps, and its peak memory."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ftp_hf.runs.environment import peak_of_process

__all__ = ["PeakMemory", "StepTimer", "peak_memory"]


class StepTimer(TrainerCallback):
    """Measures the `seconds` of each step of a run, without fetching the batches."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step starts."""
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It has ended."""
        self.seconds.append(time.perf_counter() - self._start)


class PeakMemory(TrainerCallback):
    """Has [`peak_memory`] count from the beginning of the training, on this process: what was held before is forgotten."""

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        """Training starts."""
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(args.device)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """The most memory that was held on a GPU, or by this process where it trains on the CPU, in bytes."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_of_process()
