"""What a stream measured, as plain data: `results.json`, from which its report is made."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftp_hf.common.figures import Metric, metric_named
from ftp_hf.runs.facts import RuleResult

from .saved import SavedResults, kind_of_results
from .stream_measures import (
    average_forgetting,
    backward_transfer,
    final_average,
    forward_transfer,
    learning_accuracy,
    worst_stage,
)

__all__ = ["LEVELS", "MEASURES", "StageCheck", "StreamMethodFacts", "StreamResults", "StreamRun", "is_stream"]


@dataclass
class StreamMethodFacts:
    """A method, and what it was trained with."""

    name: str
    """As in the config."""
    title: str
    source: str
    """The paper, or what the method is, in a line."""
    setting: dict[str, float] = field(default_factory=dict)


@dataclass
class StageCheck:
    """The rules that a stage was held to, and what came of it."""

    stage: str
    rules: list[RuleResult] = field(default_factory=list)
    """Those that could be checked: none about stages that had not been trained yet."""
    rolled_back: bool = False
    """Whether the model before the stage took the place of the one that it left."""
    row: list[float] = field(default_factory=list)
    """Of a model that was rolled back, its figures on the test set of each stage."""

    @property
    def broken(self) -> list[RuleResult]:
        """The rules that were not met."""
        return [result for result in self.rules if not result.passed]


@dataclass
class StreamRun:
    """One stream: a method with an order of the stages and a seed."""

    method: str
    order: list[str]
    seed: int
    matrix: list[list[float]]
    """After each stage (rows), the figure on the test set of each (columns), in the order of the stream; a single row, after
    all of them at once, of joint training. After a stage that was rolled back it is the row of the model before it."""
    before: list[float]
    """The figures of the model before any stage, in the same order."""
    retained: dict[str, list[float]] = field(default_factory=dict)
    """By retained set, the figure before any stage, and after each."""
    seconds: float | None = None
    """Of training, all stages together; `None` where one was interrupted."""
    peak_memory_bytes: int | None = None
    folders: list[str] = field(default_factory=list)
    """Of the runs of the stages, from the folder of the stream on."""
    checks: list[StageCheck] = field(default_factory=list)
    """After each stage, where the stream has rules."""

    @property
    def is_sequential(self) -> bool:
        """Whether the stages were trained one after the other."""
        return len(self.matrix) == len(self.order)


@dataclass
class StreamResults(SavedResults):
    """
    A stream, finished.

    Args:
        name (`str`): of the config.
        metric (`str`): of the matrices, such as `"accuracy"`.
        stages (list of `str`): in the order of the config.
        orders (list of lists of `str`): that each method was trained in.
        seeds (list of `int`): that each method ran with.
        methods (list of [`StreamMethodFacts`]): in the order of the config.
        runs (list of [`StreamRun`]): of all methods, orders and seeds.
        retained_metrics (`dict[str, str]`): by retained set, what its figures are of.
        config (`dict`): as the stream was asked for.
        command (`str`, *optional*): that made it.
        metrics (list of [`Metric`], *optional*): of the task.
        rules (list of `str`, *optional*): what the model has to meet after each stage.
        when_broken (`str`, *optional*): `"roll_back"` or `"alert"`, where there are rules.
    """

    what = "stream"

    name: str
    metric: str
    stages: list[str]
    orders: list[list[str]]
    seeds: list[int]
    methods: list[StreamMethodFacts]
    runs: list[StreamRun]
    retained_metrics: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    metrics: list[Metric] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    when_broken: str | None = None

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, −1 where less is."""
        return metric_named(self.metric).sign

    @property
    def sequential(self) -> list[str]:
        """The names of the methods that train one stage after the other."""
        return [method.name for method in self.methods if all(run.is_sequential for run in self.of(method.name))]

    def method(self, name: str) -> StreamMethodFacts:
        """The facts of a method."""
        return next(method for method in self.methods if method.name == name)

    def of(self, method: str) -> list[StreamRun]:
        """The runs of a method."""
        return [run for run in self.runs if run.method == method]

    def measured(self, method: str, measure: str) -> dict[int, float]:
        """
        One of `MEASURES` for each order and seed of a method that has it, by their number, which counts all seeds of the first
        order first. Joint training is the same in all orders.
        """
        return self._by_number(method, lambda run: MEASURES[measure](run, self.sign))

    def possible(self, measure: str) -> tuple[float, float]:
        """The least and the largest value that one of `MEASURES` can have, as far as that is bounded by the metric itself."""
        return metric_named(self.metric).possible if measure in LEVELS else (-math.inf, math.inf)

    def of_runs(self, method: str, measure: str) -> list[float]:
        """One of `MEASURES` for each run of a method that has it: as [`measured`], with joint training once a seed."""
        found = [MEASURES[measure](run, self.sign) for run in self.of(method)]
        return [value for value in found if value is not None]

    def retained(self, method: str, name: str) -> dict[int, float]:
        """The figure of a retained set after the last stage, by the number of order and seed as in [`measured`]."""
        return self._by_number(method, lambda run: run.retained[name][-1])

    def _by_number(self, method: str, value_of: Callable[[StreamRun], float | None]) -> dict[int, float]:
        found = {}
        for run in self.of(method):
            value = value_of(run)
            for number, order in enumerate(self.orders):
                if value is not None and (run.order == order or not run.is_sequential):
                    found[number * len(self.seeds) + self.seeds.index(run.seed)] = value
        return found

    def pairs(
        self, method: str, other: str, figures: Callable[[str], dict[int, float]]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """
        The figures of two methods ([`measured`] or [`retained`]), by what they share: order and seed. Joint training has the
        same run for all orders: beside it, by seed, with the mean of the other over the orders.
        """
        one, two = figures(method), figures(other)
        if {method, other} <= {*self.sequential}:
            return one, two
        return self._over_orders(one), self._over_orders(two)

    def _over_orders(self, figures: dict[int, float]) -> dict[int, float]:
        by_seed: dict[int, list[float]] = {}
        for number, figure in figures.items():
            by_seed.setdefault(number % len(self.seeds), []).append(figure)
        return {seed: statistics.fmean(values) for seed, values in by_seed.items()}


def is_stream(folder: Path) -> bool:
    """Whether the `results.json` in a folder is that of a stream."""
    return kind_of_results(folder) == StreamResults.what


def _of_stages(measure: Callable[[StreamRun, int], float | None]) -> Callable[[StreamRun, int], float | None]:
    return lambda run, sign: measure(run, sign) if run.is_sequential else None


MEASURES: dict[str, Callable[[StreamRun, int], float | None]] = {
    "final average": lambda run, _: final_average(run.matrix),
    "worst stage": lambda run, sign: worst_stage(run.matrix, sign),
    "learning accuracy": _of_stages(lambda run, _: learning_accuracy(run.matrix)),
    "backward transfer": _of_stages(lambda run, sign: backward_transfer(run.matrix, sign)),
    "forgetting": _of_stages(lambda run, sign: average_forgetting(run.matrix, sign)),
    "forward transfer": _of_stages(lambda run, sign: forward_transfer(run.matrix, run.before, sign)),
}
"""The measures of a stream, by their usual names, given the sign of the metric; `None` where one is not defined."""

LEVELS = ("final average", "worst stage", "learning accuracy")
"""Of [`MEASURES`], those that are figures; the others are differences of figures."""
