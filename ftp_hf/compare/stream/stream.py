"""A stream from start to end: train each chain of stages, evaluate after each of them on all, report."""

import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ftp_hf.checkpoints.lock import run_lock
from ftp_hf.common.launched import say
from ftp_hf.compare.evidence.stream_results import StreamResults, StreamRun
from ftp_hf.compare.report.stream import write_stream_report
from ftp_hf.compare.report.write import HTML, check_charts_can_be_drawn
from ftp_hf.compare.run.allocation import leaving_out_what_stays
from ftp_hf.compare.run.handover import check_vacant
from ftp_hf.compare.run.pool import Pool
from ftp_hf.compare.run.processes import begin, join_processes
from ftp_hf.compare.run.progress import make_progress, quiet
from ftp_hf.compare.run.sources import check_sources
from ftp_hf.compare.run.workers import begin_worker

from .config import StreamConfig
from .course import StreamCourse
from .plan import Chain, describe_stream

__all__ = ["rehearse_stream", "stream"]


def stream(config: StreamConfig, folder: Path, *, jobs: int | None = None) -> StreamResults:
    """
    Run a stream, or go on with it: stages that are finished are not repeated, and one that was cut short goes on from its
    last checkpoint. The weights of a stage are deleted once no other needs them; of each method, the last model of the first
    order and seed stays that was not rolled back. The plan and the progress go to the standard error, the place of the report to
    the standard output.

    Args:
        config ([`StreamConfig`]): what is trained.
        folder (`Path`): for the runs, in `runs/`, for `results.json` and for the report.
        jobs (`int`, *optional*): how many processes train at the same time, each another method, order or seed, on a GPU of its
            own where there are as many, on their share of the threads where there is none; by default one. As of
            [`~ftp_hf.compare.compare`], one that fails keeps no other from being finished.

    Raises:
        ValueError: the data or a method does not fit; nothing has been trained then. Or, of several jobs, a stream has failed,
            which is named.
        OSError: another stream is running in the folder, or its `results.json` is of something else.
        ImportError: matplotlib, which draws the charts, is missing.
    """
    runs, at_once = folder / "runs", jobs is not None and jobs > 1
    check_charts_can_be_drawn()
    check_vacant(folder, StreamResults.what)
    main = begin(config.first, jobs, launched_too=not at_once)
    with run_lock(folder) if main else nullcontext(), leaving_out_what_stays():
        console = Console(file=sys.stderr, quiet=not main)
        with quiet(), make_progress(console) as progress:
            course = StreamCourse(config, runs, progress)
            course.check()
            check_sources(config.stages.values(), folder)
            console.print(describe_stream(config, course.count), soft_wrap=True, highlight=False)
            make = partial(_beside_others, config, runs)
            with Pool[Chain, StreamRun](make, jobs) if jobs and at_once else nullcontext() as pool:
                results = course.run(pool)
        if main:
            results.save(folder)
            write_stream_report(results, folder)
            say(folder / HTML)
    return results


def rehearse_stream(config: StreamConfig) -> None:
    """
    Check all that [`stream`] checks before it trains, and say what it would train. Nothing is trained or left behind.

    Raises:
        ValueError, ImportError: as [`stream`].
    """
    check_charts_can_be_drawn()
    main = join_processes(config.first).is_main_process
    with tempfile.TemporaryDirectory() as folder, quiet():
        console = Console(quiet=True)
        course = StreamCourse(config, Path(folder), make_progress(console))
        course.check()
    if main:
        print(describe_stream(config, course.count), file=sys.stderr)


def _beside_others(config: StreamConfig, runs: Path) -> StreamCourse:
    """The course of a worker process."""
    begin_worker(config.first)
    return StreamCourse(config, runs, Progress(disable=True), beside_others=True)
