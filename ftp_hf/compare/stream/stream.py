"""A stream from beginning to end: train each chain of stages, evaluate after each of them on all, report."""

import dataclasses
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import Progress
from transformers import set_seed

from ftp_hf.checkpoints.lock import run_lock
from ftp_hf.common.allocation import keep_freed_memory, leaving_out_what_stays
from ftp_hf.common.figures import main_metric, show
from ftp_hf.common.privacy import public_command, public_value
from ftp_hf.common.processes import from_first_process
from ftp_hf.common.progress import make_progress, quiet
from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.compare.evidence.stream_measures import final_average
from ftp_hf.compare.evidence.stream_results import StageCheck, StreamMethodFacts, StreamResults, StreamRun
from ftp_hf.compare.report.stream import write_stream_report
from ftp_hf.compare.report.write import HTML, check_charts_can_be_drawn
from ftp_hf.compare.run.folder import TRAINED, forget_weights, has_weights, read_run, scratch, write_run
from ftp_hf.compare.run.measuring import evaluator, measure
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.processes import join_processes
from ftp_hf.compare.run.rules import rules_without_figures
from ftp_hf.compare.run.trained import free_memory
from ftp_hf.runs.facts import PRETRAINED
from ftp_hf.runs.rules import describe

from .config import PER_STAGE, StreamConfig
from .data import StageData
from .heads import HeadPerStageMixin, competitors
from .left import Left
from .methods import STREAM_METHODS
from .plan import chain, describe_stream, stage_of, stages_before
from .rules import check_stage, rules_without_metrics
from .stages import StageRuns

__all__ = ["rehearse_stream", "stream"]

_UNTRAINED = {"stages": 0.0}
_STEPS = 1000
"""Of the progress bar, for each run."""


def stream(config: StreamConfig, folder: Path, *, output: TextIO | None = None) -> StreamResults:
    """
    Run a stream, or go on with it: stages that are finished are not repeated, and one that was cut short goes on from its
    last checkpoint. The weights of a stage are deleted once no other needs them; of each method, the last model of the first
    order and seed stays that was not rolled back.

    Args:
        config ([`StreamConfig`]): what is trained.
        folder (`Path`): for the runs, in `runs/`, for `results.json` and for the report.
        output (text file, *optional*): for what is said. By default the plan and the progress go to the standard error, the
            place of the report to the standard output.

    Raises:
        ValueError: the data or a method does not fit; nothing has been trained then.
        OSError: another stream is running in the folder.
        ImportError: matplotlib, which draws the charts, is missing.
    """
    check_charts_can_be_drawn()
    keep_freed_memory()
    main = join_processes(config.first).is_main_process
    with run_lock(folder) if main else nullcontext(), leaving_out_what_stays():
        console = Console(file=output or sys.stderr, quiet=not main)
        with quiet(), _of_few_classes(), make_progress(console) as progress:
            running = _Stream(config, folder / "runs", progress)
            running.check()
            console.print(describe_stream(config, running.count), soft_wrap=True, highlight=False)
            results = running.run()
        if main:
            results.save(folder)
            write_stream_report(results, folder)
            print(folder / HTML, file=output or sys.stdout)
    return results


def rehearse_stream(config: StreamConfig, *, output: TextIO | None = None) -> None:
    """
    Check all that [`stream`] checks before it trains, and say what it would train. Nothing is trained or left behind. Which
    metrics a rule can be about is known only once a model was evaluated, by which `stream` begins.

    Args:
        config ([`StreamConfig`]): what would be trained.
        output (text file, *optional*): for the plan; by default the standard error.

    Raises:
        ValueError, ImportError: as [`stream`].
    """
    check_charts_can_be_drawn()
    main = join_processes(config.first).is_main_process
    with tempfile.TemporaryDirectory() as folder, quiet():
        console = Console(file=output or sys.stderr, quiet=True)
        running = _Stream(config, Path(folder), make_progress(console))
        running.check()
    if main:
        print(describe_stream(config, running.count), file=output or sys.stderr)


@contextmanager
def _of_few_classes() -> Iterator[None]:
    """Without a word on answers that are no class of the test set: they are those of the other stages."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        yield


class _Stream:
    def __init__(self, config: StreamConfig, runs: Path, progress: Progress) -> None:
        self.config, self.runs, self.progress, self.metric = config, runs, progress, config.first.metric
        self.data = {name: StageData(stage) for name, stage in config.stages.items()}
        if config.heads == PER_STAGE:
            classes = [data.classes for data in self.data.values()]
            for data in self.data.values():
                if isinstance(data.task, HeadPerStageMixin):
                    data.task.competing = competitors(classes, len(data.task.labels))
        self.chains = [
            (method, order, seed, chain(config, method, order, seed))
            for method in config.methods
            for number, order in enumerate(config.orders)
            for seed in config.seeds
            if number == 0 or not STREAM_METHODS[method].joint
        ]
        self._to_stay: set[Path] = set()
        self._folders = {id(run): run.folder(runs, config.first) for *_, stages in self.chains for run in stages}

    @property
    def count(self) -> int:
        """Of the runs, those that several chains have in common once."""
        return len(set(self._folders.values()))

    def check(self) -> None:
        """Make the Trainers of the first two stages of each method, which raise what they refuse."""
        any_task = self.data[self.config.first.stage].task
        problems = rules_without_figures(self.config.rules, any_task.load_model)
        for method in self.config.methods:
            for run in chain(self.config, method, self.config.orders[0], self.config.seeds[0])[:2]:
                if run.base is not None and METHODS[run.method].adapter:
                    continue  # the adapter of the stage before is not there yet
                with problems.gathered(f"methods: {method} cannot be trained: "):
                    self._runs_of(run).check(run)
        shutil.rmtree(scratch(self.runs), ignore_errors=True)
        free_memory()
        problems.raise_all()

    def run(self) -> StreamResults:
        """Train and evaluate all that is not finished."""
        if self.config.rules:
            start = self._left(Run(PRETRAINED, {}, self.config.seeds[0], config=self.config.first))
            rules_without_metrics(self.config.rules, start).raise_all()
        total = sum(len(runs) for *_, runs in self.chains)
        self.bar = self.progress.add_task("", total=total * _STEPS)
        self.done = 0
        finished = [self._run_chain(number) for number in range(len(self.chains))]
        self.progress.update(self.bar, completed=total * _STEPS, description="finished")
        first = self.config.first
        return StreamResults(
            name=self.config.name,
            metric=first.metric,
            stages=list(self.config.stages),
            orders=self.config.orders,
            seeds=self.config.seeds,
            methods=[
                StreamMethodFacts(name, STREAM_METHODS[name].title, STREAM_METHODS[name].source, setting)
                for name, setting in self.config.methods.items()
            ],
            runs=finished,
            retained_metrics=self._retained_metrics,
            config=public_value(self.config.content),
            command=public_command(["ftp-hf", *sys.argv[1:]]),
            metrics=list(first.task_class.metrics),
            rules=[rule.text for rule in self.config.rules],
            when_broken=self.config.when_broken if self.config.rules else None,
        )

    def _run_chain(self, number: int) -> StreamRun:
        method, order, seed, runs = self.chains[number]
        before = self._left(Run(PRETRAINED, {}, seed, config=self.config.first))
        kept, in_use, trained, checks = [before], [], [], []
        rolled_back: set[int] = set()
        for place in range(len(runs)):
            run = runs[place]
            stages = "all stages" if stage_of(run).joined else " → ".join(order[: place + 1])
            where = f"{STREAM_METHODS[method].title}, {stages}, seed {seed}"
            self.progress.update(self.bar, description=where)
            self._train(run)
            trained.append(self._left(run))
            check = check_stage(self.config, kept, trained[-1], order)
            if check.rolled_back:
                rolled_back.add(place)
                runs = chain(self.config, method, order, seed, rolled_back)
                self._forget(run, number)
            else:
                self._forget(kept[-1].run, number)
                kept.append(trained[-1])
            in_use.append(kept[-1])
            checks.append(check)
            self.done += 1
            self._show(0.0)
            average = show(final_average([trained[-1].row(order, self.metric)]), self.metric)
            line = f"{self.done} {where}: mean of all stages {average}{_told(check)}"
            self.progress.console.print(line, soft_wrap=True, highlight=False)
        last = kept[-1].run
        if (order, seed) == (self.config.orders[0], self.config.seeds[0]):
            self._to_stay.add(self._folder(last))
            # The run that a stage started from which was rolled back may be needed again now.
            if rolled_back and last is not before.run and not from_first_process(has_weights(self._folder(last))):
                self._restore(last)
        else:
            self._forget(last, number)
        told = self._tell(method, order, before, in_use, trained)
        return dataclasses.replace(told, checks=checks if self.config.rules else [])

    def _tell(
        self, method: str, order: list[str], before: Left, in_use: Sequence[Left], trained: Sequence[Left]
    ) -> StreamRun:
        retained = {
            name: [each.measured.values("retained", metric)[name] for each in (before, *in_use)]
            for name, metric in self._retained_metrics_of(before.measured).items()
        }
        hardware = [each.measured.summary.hardware for each in trained]
        seconds = [each.total_seconds if each else None for each in hardware]
        memory = [each.peak_memory_bytes for each in hardware if each and each.peak_memory_bytes]
        return StreamRun(
            method=method,
            order=list(order),
            seed=before.run.seed,
            matrix=[each.row(order, self.metric) for each in in_use],
            before=before.row(order, self.metric),
            retained=retained,
            seconds=None if None in seconds else sum(filter(None, seconds)),
            peak_memory_bytes=max(memory, default=None),
            folders=[f"{self.runs.name}/{self._folder(each.run).name}" for each in trained],
        )

    def _left(self, run: Run) -> Left:
        return Left(run, self._evaluate(run))

    @property
    def _retained_metrics(self) -> dict[str, str]:
        before = Run(PRETRAINED, {}, self.config.seeds[0], config=self.config.first)
        return self._retained_metrics_of(self._evaluate(before))

    def _retained_metrics_of(self, measured: ComparedRun) -> dict[str, str]:
        """Of each retained set, the metric of the stream where it has it, and otherwise its main one."""
        metric = self.config.first.metric
        return {
            result.data: metric if metric in result.metrics else main_metric(result.metrics) or metric
            for result in measured.summary.of_kind("retained")
        }

    def _train(self, run: Run) -> None:
        """A run, and before it all that it starts from, where that is needed and is not there any more."""
        base = None if self._finished(run) else run.base
        if base is not None and not from_first_process(has_weights(self._folder(base))):
            self._restore(base)
        self._runs_of(run).train(run, self._show)
        if not from_first_process(has_weights(self._folder(run)) or self._evaluation_file(run).is_file()):
            self._restore(run)

    def _restore(self, run: Run) -> None:
        """Train a run again whose weights were deleted when nothing needed them."""
        if run.base is not None and not from_first_process(has_weights(self._folder(run.base))):
            self._restore(run.base)
        self._runs_of(run).train_again_unless(lambda: has_weights(self._folder(run)), run)

    def _evaluate(self, run: Run) -> ComparedRun:
        file = self._evaluation_file(run)
        if not from_first_process(file.is_file()):
            runs = self._runs_of(run)
            if run.method == PRETRAINED:
                set_seed(run.seed)
                model, record = runs.task.load_model(), None
            else:
                model, record = runs.load(run), runs.record(run)
            summary = measure(runs.data, run, evaluator(runs, run, model))
            if record is None:
                record = ComparedRun(PRETRAINED, _UNTRAINED, run.seed, summary)
            told = dataclasses.replace(record.summary, name=summary.name, results=summary.results, data=summary.data)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_run(file, dataclasses.replace(record, summary=told))
            free_memory()
        return read_run(file)

    def _forget(self, run: Run, number: int) -> None:
        """Delete the weights of a run that no stage still to come starts from."""
        to_come = [each for *_, later in self.chains[number + 1 :] for each in later]
        bases = {self._folder(each.base) for each in to_come if each.base is not None and not self._finished(each)}
        if self._folder(run) not in bases | self._to_stay:
            forget_weights(self._folder(run))

    def _runs_of(self, run: Run) -> StageRuns:
        stage = stage_of(run)
        data = self.data[stage.stage].after([self.data[name] for name in stages_before(run)], stage.replayed)
        if stage.joined:
            data = data.joined([self.data[name] for name in stage.joined])
        return StageRuns(stage, self.runs, data)

    def _folder(self, run: Run) -> Path:
        return self._folders.get(id(run)) or run.folder(self.runs, self.config.first)

    def _evaluation_file(self, run: Run) -> Path:
        return run.evaluation_file(self.runs, self.config.first)

    def _finished(self, run: Run) -> bool:
        return from_first_process((self._folder(run) / TRAINED).is_file())

    def _show(self, share: float) -> None:
        self.progress.update(self.bar, completed=(self.done + share) * _STEPS)


def _told(check: StageCheck) -> str:
    broken = "; ".join(map(describe, check.broken))
    return f". {'Rolled back' if check.rolled_back else 'Broken'}: {broken}" if broken else ""
