"""The course of a stream: each chain of stages, trained, evaluated after each stage on all, and held to the rules."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.progress import Progress
from transformers import set_seed

from ftp_hf.common.figures import main_metric, show
from ftp_hf.common.privacy import public_command, public_value
from ftp_hf.common.problems import Problems
from ftp_hf.common.processes import from_first_process
from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.compare.evidence.stream_measures import final_average
from ftp_hf.compare.evidence.stream_results import StageCheck, StreamMethodFacts, StreamResults, StreamRun
from ftp_hf.compare.run.folder import TRAINED, forget_weights, has_weights, read_run, write_run
from ftp_hf.compare.run.measuring import evaluator, expected_figures, measure
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.processes import make_once, working_alone
from ftp_hf.compare.run.rules import rules_without_figures
from ftp_hf.compare.run.runner import refused
from ftp_hf.compare.run.trained import check_processes
from ftp_hf.compare.run.workers import Workers
from ftp_hf.runs.facts import PRETRAINED
from ftp_hf.runs.rules import describe

from .config import PER_STAGE, StreamConfig
from .data import StageData
from .heads import HeadPerStageMixin, competitors
from .methods import STREAM_METHODS
from .plan import Chain, chains, stage_of, stages_before
from .rules import check_stage, rules_without_metrics
from .stage_outcome import StageOutcome
from .stages import StageRuns

__all__ = ["StreamCourse"]

_UNTRAINED = {"stages": 0.0}
_STEPS = 1000
"""Of the progress bar, for each run."""


class StreamCourse:
    """
    Args:
        config ([`StreamConfig`]): what is trained.
        runs (`Path`): the folder of all runs.
        progress (`Progress`): gets a bar, and a line for each run.
        beside_others (`bool`, *optional*, defaults to `False`): whether other processes train other chains at the same time,
            so that weights that one of them may need are deleted by the process that knows all chains.

    Raises:
        ValueError: the data of a stage do not fit.
    """

    def __init__(self, config: StreamConfig, runs: Path, progress: Progress, *, beside_others: bool = False) -> None:
        self.config, self.runs, self.progress, self.metric = config, runs, progress, config.first.metric
        self.beside_others = beside_others
        self.data = {name: StageData(stage) for name, stage in config.stages.items()}
        if config.heads == PER_STAGE:
            classes = [data.classes for data in self.data.values()]
            for data in self.data.values():
                if isinstance(data.task, HeadPerStageMixin):
                    data.task.competing = competitors(classes, len(data.task.labels))
        self.chains = {each: each.runs(config) for each in chains(config)}
        self._open = [*self.chains]
        self.bar, self.done = progress.add_task("", visible=False), 0
        self._to_stay: set[Path] = set()
        planned = itertools.chain(*self.chains.values())
        self._folders = {id(run): run.folder(runs, config.first) for run in planned}

    @property
    def count(self) -> int:
        """How many runs there are; those that several chains share count once."""
        return len(set(self._folders.values()))

    def check(self) -> None:
        """
        Make the Trainers of the first two stages of each method, which raise what they refuse; refuse unfit rules; and warn of rows of
        the training data that are measured on.
        """
        rules, stage = self.config.rules, self.config.first.stage
        problems = rules_without_figures(rules, self.data[stage].task.load_model)
        problems += rules_without_metrics(rules, stage, expected_figures(self.data[stage]))
        problems += refused(self._tried(), lambda run: self._runs_of(run).check(run), self.runs)
        problems.raise_all()
        for data in self.data.values():
            data.warn_of_known()

    def run(self, workers: Workers[Chain, StreamRun] | None = None) -> StreamResults:
        """
        Train and evaluate all that is not finished; workers do several chains at once. One that fails does not keep the others
        from being finished.

        Raises:
            ValueError: workers failed, which names their chains.
        """
        total = sum(map(len, self.chains.values())) * _STEPS
        self.progress.update(self.bar, total=total, visible=True)
        if workers:
            workers.ask("finish", self.chains)
        problems, finished = Problems(), []
        for chain in self.chains:
            with problems.gathered() if workers else nullcontext():
                if workers:
                    workers.result("finish", chain)
                finished.append(self.finish(chain))
        problems.raise_all()
        self.progress.update(self.bar, completed=total, description="finished")
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

    def finish(self, chain: Chain) -> StreamRun:
        """Train and evaluate what is not finished of a chain."""
        runs, order, seed = self.chains[chain], [*chain.order], chain.seed
        before = self._left(Run(PRETRAINED, {}, seed, config=self.config.first))
        kept, in_use, trained, checks = [before], [], [], []
        rolled_back: set[int] = set()
        for place in range(len(runs)):
            run, where = runs[place], chain.describe(place + 1)
            self.progress.update(self.bar, description=where)
            self._train(run)
            trained.append(self._left(run))
            check = check_stage(self.config, kept, trained[-1], order)
            if check.rolled_back:
                rolled_back.add(place)
                runs = chain.runs(self.config, rolled_back)
                self._forget(run, chain)
            else:
                self._forget(kept[-1].run, chain)
                kept.append(trained[-1])
            in_use.append(kept[-1])
            checks.append(check)
            self.done += 1
            self._show(0.0)
            average = show(final_average([trained[-1].row(order, self.metric)]), self.metric)
            line = f"{self.done} {where}: mean of all stages {average}{_broken(check)}"
            self.progress.console.print(line, soft_wrap=True, highlight=False)
        if not self.beside_others:
            self._keep_last(chain, kept[-1].run, has_start=bool(rolled_back) and len(kept) > 1)
        self._open.remove(chain)
        finished = self._gather(chain.method, order, before, in_use, trained)
        return dataclasses.replace(finished, checks=checks if self.config.rules else [])

    def _tried(self) -> Iterator[tuple[str, Run]]:
        for method in self.config.methods:
            first = Chain(method, tuple(self.config.orders[0]), self.config.seeds[0])
            for run in first.runs(self.config)[:2]:
                if run.base is not None and METHODS[run.method].adapter:
                    continue  # the adapter of the stage before is not there yet
                yield method, run

    def _keep_last(self, chain: Chain, last: Run, *, has_start: bool) -> None:
        """Keep the last model in use of each method in the first order with the first seed, and delete the others."""
        if (list(chain.order), chain.seed) != (self.config.orders[0], self.config.seeds[0]):
            self._forget(last, chain)
            return
        self._to_stay.add(self._folder(last))
        # The run that a stage started from which was rolled back may be needed again now.
        if has_start and not from_first_process(has_weights(self._folder(last))):
            self._restore(last)

    def _gather(
        self,
        method: str,
        order: list[str],
        before: StageOutcome,
        in_use: Sequence[StageOutcome],
        trained: Sequence[StageOutcome],
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
            order=order,
            seed=before.run.seed,
            matrix=[each.row(order, self.metric) for each in in_use],
            before=before.row(order, self.metric),
            retained=retained,
            seconds=None if None in seconds else sum(filter(None, seconds)),
            peak_memory_bytes=max(memory, default=None),
            folders=[f"{self.runs.name}/{self._folder(each.run).name}" for each in trained],
        )

    def _left(self, run: Run) -> StageOutcome:
        return StageOutcome(run, self._evaluate(run))

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
        if from_first_process((self._folder(run) / TRAINED).is_file()):  # its data need not be prepared
            check_processes(read_run(self._folder(run) / TRAINED))
        else:
            if run.base is not None and not from_first_process(has_weights(self._folder(run.base))):
                self._restore(run.base)
            with working_alone(self._folder(run)):
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
        make_once(file, lambda: self._measure(run, file))
        return read_run(file)

    def _measure(self, run: Run, file: Path) -> None:
        runs = self._runs_of(run)
        if run.method == PRETRAINED:
            set_seed(run.seed)
            model, record = runs.task.load_model(), None
        else:
            model, record = runs.load(run), runs.record(run)
        summary = measure(runs.data, run, evaluator(runs, run, model))
        if record is None:
            record = ComparedRun(PRETRAINED, _UNTRAINED, run.seed, summary)
        full = dataclasses.replace(record.summary, name=summary.name, results=summary.results, data=summary.data)
        write_run(file, dataclasses.replace(record, summary=full))

    def _forget(self, run: Run, chain: Chain) -> None:
        """Delete the weights of a run of a chain that no other has which is not finished."""
        folder = self._folder(run)
        to_come = {self._folder(each) for other in self._open if other != chain for each in self.chains[other]}
        if folder not in to_come | self._to_stay:
            forget_weights(folder)

    def _runs_of(self, run: Run) -> StageRuns:
        stage = stage_of(run)
        data = self.data[stage.stage].after([self.data[name] for name in stages_before(run)], stage.replayed)
        if stage.joined:
            data = data.joined([self.data[other.name] for other in stage.joined])
        return StageRuns(stage, self.runs, data)

    def _folder(self, run: Run) -> Path:
        return self._folders.get(id(run)) or run.folder(self.runs, self.config.first)

    def _evaluation_file(self, run: Run) -> Path:
        return run.evaluation_file(self.runs, self.config.first)

    def _show(self, share: float) -> None:
        self.progress.update(self.bar, completed=(self.done + share) * _STEPS)


def _broken(check: StageCheck) -> str:
    broken = "; ".join(map(describe, check.broken))
    return f". {'Rolled back' if check.rolled_back else 'Broken'}: {broken}" if broken else ""
