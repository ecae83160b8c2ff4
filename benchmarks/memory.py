"""
How many bytes a parameter does training take? On the CPU each contestant gets fresh processes (`--repetitions`), one model's
worth of parameters and one set of gradients; the medians are shown.

    python benchmarks/memory.py --model vit_b

Three figures, in bytes per parameter:

- `rest`: weights, gradients and optimizer state between steps, as the sum of the tensors' sizes;
- `first_peak` and `later_peak`: the most that is in use at any time during the first step and during the third. On CUDA
  that is `torch.cuda.max_memory_allocated`, on the CPU what the profiler's allocation events add up to.

On the CPU `first_rss` and `later_rss` are the same peaks as the kernel of the operating system saw them: the largest
resident set during the step, less the resident set before the parameters were made. They need Linux, and are coarser,
since freed memory goes back to the system late or never.
"""

import ctypes
import gc
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contestants import (
    BASELINE,
    CONTESTANTS,
    MODELS,
    Gradients,
    Shapes,
    Training,
    default_contestants,
    elements,
    shapes,
)
from measure import in_fresh_process, parser, print_table, synchronize, write
from torch.profiler import ProfilerActivity, profile, record_function


def measure(name: str, shapes: Shapes, device: str, seed: int) -> dict[str, float]:
    """All figures of one contestant. The resident set comes first, while the process is fresh."""
    if torch.device(device).type == "cuda":
        return _on_cuda(_build(name, shapes, device, seed))
    resident = _resident(name, shapes, seed) if Path("/proc/self/clear_refs").exists() else {}
    return _allocated(name, shapes, seed) | resident


def _build(name: str, shapes: Shapes, device: str, seed: int) -> Training:
    training = Training(CONTESTANTS[name], shapes, Gradients(shapes, device, seed, sets=1), seed)
    training.prepare(0)
    return training


def _on_cuda(training: Training) -> dict[str, float]:
    first = _cuda_peak(training)
    training.step()
    return {"rest": training.bytes_per_parameter(), "first_peak": first, "later_peak": _cuda_peak(training)}


def _cuda_peak(training: Training) -> float:
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    training.step()
    synchronize("cuda")
    return torch.cuda.max_memory_allocated() / training.elements


def _allocated(name: str, shapes: Shapes, seed: int) -> dict[str, float]:
    # The profiler counts only what is allocated while it runs, so it has to see the parameters made.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        training = _build(name, shapes, "cpu", seed)
        for label in ("first_peak", "second_peak", "later_peak"):
            with record_function(label):
                training.step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    rest = training.bytes_per_parameter()
    return {"rest": rest} | {
        label: _peak_between(events, label) / training.elements for label in ("first_peak", "later_peak")
    }


def _peak_between(events: list[dict[str, Any]], label: str) -> int:
    """The most bytes in use during the part of the trace that bears the label."""
    part = next(event for event in events if event["name"] == label)
    used = peak = 0
    for event in sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]):
        used += event["args"]["Bytes"]
        if event["ts"] <= part["ts"]:
            peak = used
        elif event["ts"] <= part["ts"] + part["dur"]:
            peak = max(peak, used)
    return peak


def _resident(name: str, shapes: Shapes, seed: int) -> dict[str, float]:
    # What torch imports and allocates for itself at a first step is not the contestant's.
    _build(name, {"weight": (8, 8)}, "cpu", seed).step()
    before = _peak_resident(lambda: None)
    training = _build(name, shapes, "cpu", seed)
    first = _peak_resident(training.step)
    training.step()
    later = _peak_resident(training.step)
    return {"first_rss": (first - before) / training.elements, "later_rss": (later - before) / training.elements}


def _peak_resident(run: Callable[[], Any]) -> int:
    """The largest resident set during a call, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark: man 5 proc
    run()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> None:
    options = parser(__doc__, repetitions=3)
    options.add_argument("--model", choices=MODELS, default="vit_b", help="parameter list (default: %(default)s)")
    options.add_argument("--contestants", nargs="+", choices=CONTESTANTS, help="(default: all)")
    arguments = options.parse_args()

    sizes = shapes(arguments.model)
    # What CUDA's allocator counts does not depend on what a process did before.
    figures_of = measure if torch.device(arguments.device).type == "cuda" else partial(in_fresh_process, measure)
    rows: list[dict[str, Any]] = []
    for name in arguments.contestants or default_contestants(arguments.device):
        row: dict[str, Any] = {"model": arguments.model, "parameters": elements(sizes), "contestant": name}
        results = [figures_of(name, sizes, arguments.device, arguments.seed) for _ in range(arguments.repetitions)]
        rows.append(row | {key: median(result[key] for result in results) for key in results[0]})
    baseline = next((row["rest"] for row in rows if row["contestant"] == BASELINE), None)
    for row in rows:
        row["rest_ratio"] = baseline and row["rest"] / baseline
    columns = ["contestant", "rest", "rest_ratio", "first_peak", "later_peak", "first_rss", "later_rss"]
    print_table(f"bytes per parameter, {arguments.model}, {elements(sizes):,} parameters", rows, columns)
    write("memory", arguments, rows)


if __name__ == "__main__":
    main()
