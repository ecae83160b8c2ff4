"""The course of a comparison: which runs are done when, which setting of a method is chosen, and the results of all."""

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from rich.progress import Progress

from ftp_hf.common.figures import main_metric, metric_named, show
from ftp_hf.common.privacy import public_command, public_value
from ftp_hf.common.problems import Problems
from ftp_hf.common.records import plain
from ftp_hf.compare.evidence.results import RATE, ComparedRun, ComparisonResults, MethodFacts
from ftp_hf.compare.evidence.small_rates import has_fallen, smallest_kept
from ftp_hf.compare.evidence.tuning import choose
from ftp_hf.runs.corrupted import inert_among
from ftp_hf.runs.facts import PRETRAINED, Evaluation

from .config import ComparisonConfig
from .method_kinds import Continued, Trained
from .methods import METHODS
from .plan import Run, base_of, count_runs, settings_of
from .runner import Runner
from .workers import Workers

__all__ = ["Course"]

_STEPS = 1000
"""Of the progress bar, for each run."""


class Course:
    """
    Args:
        config ([`ComparisonConfig`]): of the comparison.
        runner ([`Runner`]): of this process.
        progress (`Progress`): gets a bar, and a line for each run.
        workers ([`Workers`], *optional*): that train and evaluate in its place.
    """

    def __init__(
        self, config: ComparisonConfig, runner: Runner, progress: Progress, workers: Workers[Run, ComparedRun] | None
    ) -> None:
        self.config, self.runner, self.progress, self.workers = config, runner, progress, workers
        self.lock = threading.RLock()
        self.total = sum(count_runs(config, name) for name in config.methods)
        self.bar = progress.add_task("", total=self.total * _STEPS)
        self.done = 0
        self.chosen: dict[str, dict[str, float]] = {}
        self.open = [name for name in config.methods if isinstance(METHODS[name], Continued)]
        self.tried: list[Run] = []
        self.reported: list[Run] = []
        self.runs: list[ComparedRun] = []

    def run(self) -> ComparisonResults:
        """Do all runs, and make sure that the weights of the chosen ones exist."""
        pretrained, facts = self.do_all()
        order = list(self.config.methods)
        results = ComparisonResults(
            name=self.config.name,
            metric=self.config.metric,
            methods=[facts[name] for name in order],
            seeds=self.config.seeds,
            runs=sorted(self.runs, key=lambda run: order.index(run.method)),
            config=public_value(plain(self.config)),
            command=public_command(["ftp-hf", *sys.argv[1:]]),
            rules=self.config.rules,
            metrics=list(self.config.task_class.metrics),
            pretrained=pretrained,
        )
        for method in results.methods:
            for run in results.chosen_runs(method.name):
                kept = self.runner.keep(self._plan(method.name, method.chosen, run.seed))
                run.folder = None if kept is None else f"{kept.parent.name}/{kept.name}"
        return results

    def do_all(self) -> tuple[list[Evaluation], dict[str, MethodFacts]]:
        """Do all runs. The figures of the pre-trained model, and what is known of each method."""
        self.progress.update(self.bar, description=PRETRAINED)
        pretrained = self.runner.pretrained()
        ordered = sorted(self.config.methods, key=lambda name: _bases(self.config, name))
        if self.workers:
            facts = self._compare_at_once(ordered, self.workers)
        else:
            facts = {name: self._compare_method(name) for name in ordered}
        self.progress.update(self.bar, completed=self.total * _STEPS, description="finished")
        return pretrained, facts

    def _compare_at_once(self, ordered: Sequence[str], workers: Workers[Run, ComparedRun]) -> dict[str, MethodFacts]:
        """All methods, but each after its base. One that fails does so when the others have finished."""
        with ThreadPoolExecutor(len(ordered)) as threads:
            comparing: dict[str, Future[MethodFacts]] = {}

            def compare_after_base(name: str) -> MethodFacts:
                if base := base_of(self.config, name):
                    comparing[base].result()
                return self._compare_method(name)

            for name in ordered:
                comparing[name] = threads.submit(compare_after_base, name)
            try:
                wait(comparing.values())
            except KeyboardInterrupt:
                workers.stop()
                raise
        problems, facts = Problems(), {}
        for name, compared in comparing.items():
            with problems.gathered():
                facts[name] = compared.result()
        Problems(dict.fromkeys(problems)).raise_all()
        return facts

    def _compare_method(self, name: str) -> MethodFacts:
        method, sweep = METHODS[name], self.config.methods[name]
        if isinstance(method, Continued):
            self.chosen[name] = self._compare_continued(name, method)
            tried = [run.setting for run in self.runs if run.method == name]
            sweep = {key: sorted({setting[key] for setting in tried}) for key in self.chosen[name]}
        elif isinstance(method, Trained):
            self.chosen[name] = self._compare_trained(name)
        else:
            self.chosen[name] = self._compare_derived(name)
        self._forget_unchosen()
        return MethodFacts(name, method.title, method.source, sweep, self.chosen[name])

    def _compare_trained(self, name: str) -> dict[str, float]:
        """Train every setting with the first seed, choose one, then run that."""
        planned = [self._plan(name, setting, self.config.sweep_seed) for setting in settings_of(self.config, name)]
        self._ask("train", planned)
        tried = [self._finish(run, self._train) for run in planned]
        return self._run_chosen(name, tried, self._choose(tried))

    def _compare_continued(self, name: str, method: Continued) -> dict[str, float]:
        """The rates of the base, whose runs are there, then one after the other below them until ID validation falls."""
        base, seed, metric = str(method.base), self.config.sweep_seed, self.config.metric
        of_base = self.chosen[base]
        at_rates = [each for each in settings_of(self.config, base) if {**each, RATE: of_base[RATE]} == of_base]
        tried = [self._train(self._plan(name, setting, seed)) for setting in at_rates]
        best = next(run for run in tried if run.setting == of_base)
        last = min(tried, key=lambda run: run.setting[RATE])
        (setting,) = settings_of(self.config, name)
        rates = method.rates(setting, last.setting[RATE])
        below: list[ComparedRun] = []
        while rates and not has_fallen(last, best, metric):
            last = self._finish(self._plan(name, {**of_base, RATE: rates.pop(0)}, seed), self._train)
            below.append(last)
        tried += below
        chosen = smallest_kept(tried, best, metric).setting
        # The one that the base has chosen is there with all seeds.
        repeated = len(below) if self.config.every_setting else int(chosen != of_base)
        with self.lock:
            self.open.remove(name)
            self.total -= count_runs(self.config, name) - len(below) - repeated * (len(self.config.seeds) - 1)
        self.progress.update(self.bar, total=self.total * _STEPS)
        return self._run_chosen(name, tried, chosen)

    def _run_chosen(self, name: str, tried: Sequence[ComparedRun], chosen: dict[str, float]) -> dict[str, float]:
        """Only the chosen setting is evaluated, and trained with all seeds, unless every one is asked for."""
        wanted = [run.setting for run in tried] if self.config.every_setting else [chosen]
        seeds = [tried[0].seed, *self.config.seeds[1:]]
        self._ask("finish", (self._plan(name, setting, seed) for seed, setting in itertools.product(seeds, wanted)))
        for trained in tried:
            run = self._note(self._plan(name, trained.setting, trained.seed))
            self._add(name, self._evaluate(run) if run.setting in wanted else trained)
        for seed, setting in itertools.product(self.config.seeds[1:], wanted):
            run = self._note(self._plan(name, setting, seed))
            self._add(name, self._finish(run, self._train_and_evaluate))
        return chosen

    def _compare_derived(self, name: str) -> dict[str, float]:
        """Nothing is trained, so all of the settings and seeds are evaluated: they are a curve."""
        settings = settings_of(self.config, name)
        planned = [self._plan(name, setting, seed) for seed in self.config.seeds for setting in settings]
        self._ask("finish", planned)
        tried = [self._finish(run, self._evaluate) for run in planned[: len(settings)]]
        self.runs += tried
        for seed in self.config.seeds[1:]:
            self.runs += [self._evaluate(self._plan(name, setting, seed)) for setting in settings]
            self._advance()
        with self.lock:
            self.tried += planned
        return self._choose(tried)

    def _add(self, name: str, run: ComparedRun) -> None:
        """To the runs of a method, which may be that of another one."""
        self.runs.append(dataclasses.replace(run, method=name))

    def _forget_unchosen(self) -> None:
        """Delete the weights that no method has chosen; those that a method still to come may choose are left to it."""
        with self.lock:
            waiting = {_trained_as(name) for name in self.config.methods if name not in self.chosen}
            kept = [
                self._plan(name, chosen, seed) for name, chosen in self.chosen.items() for seed in self.config.seeds
            ]
            for run in self.tried:
                if run.method not in waiting and run not in kept:
                    self.runner.forget_weights(run)
            self.tried = [run for run in self.tried if run.method in waiting]

    def _choose(self, tried: list[ComparedRun]) -> dict[str, float]:
        figures = [(run.setting, self._validation_figure(run)) for run in tried]
        return choose(figures, metric_named(self.config.metric))

    def _plan(self, name: str, setting: dict[str, float], seed: int) -> Run:
        method = _trained_as(name)
        base = base_of(self.config, method)
        return Run(method, setting, seed, self._plan(base, self.chosen[base], seed) if base else None)

    def _note(self, run: Run) -> Run:
        """Whose weights there are, until it is known that no method has chosen them."""
        with self.lock:
            self.tried += [] if run in self.tried else [run]
        return run

    def _ask(self, do: str, runs: Iterable[Run]) -> None:
        """Let the workers, if there are any, start with what will be needed."""
        if self.workers:
            self.workers.ask(do, runs)

    def _train(self, run: Run) -> ComparedRun:
        if self.workers:
            return self.workers.result("train", run)
        self.progress.update(self.bar, description=run.describe())
        return self.runner.train(run, self._show)

    def _evaluate(self, run: Run) -> ComparedRun:
        return self.workers.result("finish", run) if self.workers else self.runner.evaluate(run)

    def _train_and_evaluate(self, run: Run) -> ComparedRun:
        if not self.workers:
            self._train(run)
        return self._evaluate(run)

    def _finish(self, run: Run, do: Callable[[Run], ComparedRun]) -> ComparedRun:
        self.progress.update(self.bar, description=run.describe())
        finished = do(run)
        with self.lock:
            if run not in self.reported:  # another method may have the same
                self.reported.append(run)
                self._tell(run, finished)
        return finished

    def _tell(self, run: Run, finished: ComparedRun) -> None:
        self._advance()
        line = f"{self.done}/{'up to ' * bool(self.open)}{self.total} {run.describe()}: {self._figures(finished)}"
        self.progress.console.print(line, soft_wrap=True, highlight=False)

    def _advance(self) -> None:
        with self.lock:
            self.done += 1
            self._show(0.0)

    def _show(self, share: float) -> None:
        self.progress.update(self.bar, completed=(self.done + share) * _STEPS)

    def _validation_figure(self, run: ComparedRun) -> float:
        figure = run.value("validation", self.config.metric)
        if figure is None:
            raise ValueError(f"{run.summary.name}: {self.config.metric} was not measured on the validation data")
        return figure

    def _figures(self, run: ComparedRun) -> str:
        metric = self.config.metric
        labels = {"validation": "ID validation", "id": "ID test", "ood": "OOD mean", "corrupted": "corrupted mean"}
        left_out = inert_among([run.summary.results])
        values = {label: run.value(kind, metric, left_out=left_out) for kind, label in labels.items()}
        figures = [f"{label} {show(value, metric)}" for label, value in values.items() if value is not None]
        for result in run.summary.of_kind("retained"):
            name = main_metric(result.metrics) or metric
            figures.append(f"{result.data} {show(result.figures(name)[str(run.seed)], name)}")
        seconds = run.summary.hardware.seconds_per_step if run.summary.hardware else None
        return ", ".join([*figures, *([] if seconds is None else [f"{seconds:.3g} s a step"])])


def _trained_as(name: str) -> str:
    """The method whose runs those of a method are: its own, or its base's."""
    method = METHODS[name]
    return method.base if isinstance(method, Continued) and method.base else name


def _bases(config: ComparisonConfig, name: str) -> int:
    """How many methods have to be compared before a method."""
    base = base_of(config, name)
    return 1 + _bases(config, base) if base else 0
