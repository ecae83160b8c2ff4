"""A comparison from start to end: sweep each method, choose on ID validation, run all seeds, evaluate, report."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from accelerate import PartialState
from rich.console import Console

from ftp_hf.checkpoints.lock import run_lock
from ftp_hf.common.launched import say
from ftp_hf.compare.evidence.results import ComparedRun, ComparisonResults
from ftp_hf.compare.evidence.verdict import headline
from ftp_hf.compare.report.write import HTML, check_charts_can_be_drawn, write_report

from .allocation import leaving_out_what_stays
from .config import ComparisonConfig
from .course import Course
from .estimate import estimate
from .handover import check_vacant, hand_over, what_next
from .plan import Run, describe_plan
from .pool import Pool
from .processes import begin
from .progress import make_progress, quiet
from .ray_tasks import RayTasks
from .runner import Runner
from .sources import check_sources
from .workers import Workers, make_runner

__all__ = ["compare", "rehearse", "take_part"]

_RunWorkers = Workers[Run, ComparedRun]


def compare(
    config: ComparisonConfig, folder: Path, *, jobs: int | None = None, ray: str | None = None
) -> ComparisonResults:
    """
    Run a comparison, or go on with it. Runs that are finished are not repeated, and those that were cut short go on from
    their last checkpoint. Every chosen run is left with its weights, `results.json` and a model card, and `best` is a link to
    the one that is recommended, if one is.

    Settings are chosen on ID validation data, with the first seed; what was not chosen is never evaluated on test or OOD
    data. The plan and the progress go to the standard error, the verdict, the place of the report and what to do next to the
    standard output.

    Args:
        config ([`ComparisonConfig`]): what is compared.
        folder (`Path`): for the runs, in `runs/`, for `results.json` and for the report.
        jobs (`int`, *optional*): how many processes train and evaluate runs at the same time, each on a GPU of its own
            where there are as many, on their share of the threads where there is none. A run that fails does not keep
            others from being finished. By default one; on Ray as many as it has GPUs, or machines where it has none. A
            script that asks for more than one has its own start under `if __name__ == "__main__":`, as for any
            `multiprocessing`.
        ray (`str`, *optional*): the address of a Ray cluster, as `ray.init` takes it, whose tasks train and evaluate the
            runs. All of its machines see `folder` under the same path. A run whose worker is lost goes on elsewhere.

    Raises:
        ValueError: the data or a method does not fit; nothing has been trained then. Or, of several jobs, a run has failed,
            which is named.
        OSError: another comparison is running in the folder, or its `results.json` or `rules.yaml` is of something else; there
            is no such cluster, or one of its machines does not see the folder.
        ImportError: matplotlib, which draws the charts, is missing, or Ray.
    """
    runs = folder / "runs"
    make_workers: Callable[[], _RunWorkers] | None = None
    if ray is not None:
        make_workers = partial(RayTasks, config, runs, ray, jobs)
    elif jobs is not None and jobs != 1:
        make_workers = partial(Pool, partial(make_runner, config, runs), jobs)
    check_charts_can_be_drawn()
    check_vacant(folder, ComparisonResults.what, config.rules)
    main = begin(config, jobs, launched_too=make_workers is None)
    with run_lock(folder) if main else nullcontext(), leaving_out_what_stays():
        with _course(config, runs, make_workers) as course:
            check_sources([config], folder)
            results = course.run()
        if main:
            results.save(folder)
            hand_over(results, folder, course.runner.data.train_facts)
            write_report(results, folder)
            say(headline(results), folder / HTML, *what_next(results, folder))
    return results


def take_part(config: ComparisonConfig, folder: Path, *, jobs: int = 1) -> None:
    """
    Train and evaluate the runs of a comparison together with other processes that do the same, on this machine or on others
    that share the folder. Each run is done by one of them; if that one is lost, another finishes it. `jobs` runs at a time are
    done on this machine. It ends when all runs are done. There is no report: [`compare`] makes it, afterwards or at the same
    time.

    Raises:
        ValueError, OSError: as [`compare`].
    """
    check_charts_can_be_drawn()
    check_vacant(folder, ComparisonResults.what, config.rules)
    begin(config, jobs, launched_too=False)
    runs = folder / "runs"
    make_workers = partial(Pool, partial(make_runner, config, runs, wait=False), jobs)
    with leaving_out_what_stays(), _course(config, runs, make_workers) as course:
        check_sources([config], folder)
        course.do_all()


def rehearse(config: ComparisonConfig, *, measure: bool = False) -> None:
    """
    Check all that [`compare`] checks before it trains, and say which rows were read and what would be trained. With `measure`,
    a few steps of each method are trained to [`estimate`] time and memory. No files are left.

    Raises:
        ValueError, ImportError: as [`compare`].
    """
    check_charts_can_be_drawn()
    main = begin(config)
    with tempfile.TemporaryDirectory() as folder, quiet(), leaving_out_what_stays():
        runner = Runner(config, Path(folder))
        runner.check()
        estimated = [estimate(runner).describe()] if measure else []
    if main:
        print(*runner.data.describe(), describe_plan(config), *estimated, sep="\n", file=sys.stderr)


@contextmanager
def _course(config: ComparisonConfig, runs: Path, make_workers: Callable[[], _RunWorkers] | None) -> Iterator[Course]:
    console = Console(file=sys.stderr, quiet=not PartialState().is_main_process)
    with quiet(), make_progress(console) as progress:
        runner = Runner(config, runs)
        runner.check()
        console.print(describe_plan(config), soft_wrap=True, highlight=False)
        with make_workers() if make_workers else nullcontext() as workers:
            yield Course(config, runner, progress, workers)
