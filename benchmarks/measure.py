"""What the benchmarks share: alternating the contestants, the facts of the machine, the table and the JSON file."""

import gc
import json
import os
import platform
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
import transformers
from rich.console import Console
from rich.table import Table

import ftp_hf

RESULTS = Path(__file__).parent / "results"


class Timed(NamedTuple):
    """One contestant: `run` is timed; `prepare`, which gets the number of the round, comes before it and is not."""

    run: Callable[[], Any]
    prepare: Callable[[int], Any] = lambda _: None


def parser(description: str | None, repetitions: int) -> ArgumentParser:
    """The options that every benchmark has."""
    result = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    result.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)"
    )
    result.add_argument(
        "--repetitions", type=int, default=repetitions, help="timed rounds after warm-up (default: %(default)s)"
    )
    result.add_argument("--seed", type=int, default=0, help="of weights and gradients (default: %(default)s)")
    result.add_argument(
        "--output", type=Path, help="JSON file (default: benchmarks/results/NAME.json, on CUDA NAME_cuda.json)"
    )
    return result


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], Any], device: str) -> float:
    """How long one call takes, until the device has finished."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def alternate(
    contestants: dict[str, Timed], repetitions: int, device: str, warmup: int = 3
) -> dict[str, dict[str, float]]:
    """
    Time the contestants in turn, each round starting with another one, so that whatever else the machine does falls on
    all of them alike.

    Returns:
        `dict`: by contestant, the median and the quartiles in milliseconds.
    """
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    for number in range(warmup + repetitions):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            contestants[name].prepare(number)
            elapsed = seconds(contestants[name].run, device)
            if number >= warmup:
                times[name].append(1000 * elapsed)
    return {name: spread(values) for name, values in times.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of milliseconds."""
    lower, median, upper = statistics.quantiles(values, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    return {"ms": median, "ms_lower_quartile": lower, "ms_upper_quartile": upper}


def cuda_facts(run: Callable[[], Any], device: str) -> dict[str, int]:
    """On CUDA, the kernel launches of one call, and by how much its peak memory exceeds the memory before it."""
    if torch.device(device).type != "cuda":
        return {}
    synchronize(device)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    synchronize(device)
    extra = torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[*torch.profiler.supported_activities()]) as profile:
        run()
        synchronize(device)
    launches = sum(
        event.count for event in profile.key_averages() if event.key.startswith(("cudaLaunchKernel", "cuLaunchKernel"))
    )
    return {"launches": launches, "peak_extra_bytes": extra}


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module-level function where nothing was compiled, cached or allocated before."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    gpu = torch.cuda.get_device_name() if torch.device(device).type == "cuda" else None
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "load_average_at_end": psutil.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ftp_hf": ftp_hf.__version__,
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(name: str, arguments: Namespace, rows: list[dict[str, Any]], **facts: Any) -> Path:
    """Write the rows, with the settings and the machine that they were measured with."""
    suffix = "_cuda" if torch.device(arguments.device).type == "cuda" else ""
    path = arguments.output or RESULTS / f"{name}{suffix}.json"
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    content = {
        "benchmark": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(arguments.device),
        "settings": settings,
        **facts,
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
    print(f"written to {path}")
    return path


def print_table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print some columns of the rows: text to the left, numbers to the right in four digits, what is missing as –."""
    columns = [column for column in columns if any(column in row for row in rows)]
    table = Table(title=title)
    for column in columns:
        text = any(isinstance(row.get(column), str) for row in rows)
        table.add_column(column.replace("_", " "), justify="left" if text else "right", no_wrap=text)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
