"""What a comparison measured, as plain data: `results.json`, from which the report is made."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from ftp_hf.common.figures import Metric, check_possible
from ftp_hf.runs.corrupted import corruption_of
from ftp_hf.runs.facts import Evaluation
from ftp_hf.runs.summary import RunSummary

from .saved import SavedResults
from .statistics import known_mean

__all__ = ["RATE", "ComparedRun", "ComparisonResults", "Drift", "MethodFacts", "ParameterDrift"]

RATE = "learning_rate"
"""The setting that every method that trains has."""


@dataclass
class MethodFacts:
    """A method, and what was tried with it."""

    name: str
    """As in the config, such as `"l2-sp"`."""
    title: str
    """As in its paper, such as `"L2-SP"`."""
    source: str
    """The paper, or what the method is, in a line."""
    sweep: dict[str, list[float]] = field(default_factory=dict)
    """Setting → the values that were tried, all combinations of them."""
    chosen: dict[str, float] = field(default_factory=dict)
    """Setting → the value that was chosen, by ID validation."""


@dataclass
class ParameterDrift:
    """How far a parameter is from its pre-trained value, and how strongly its layer answers."""

    name: str
    row_norm: float
    """`max_row ‖W − W0‖₁`."""
    relative: float | None = None
    """`‖W − W0‖₂ / ‖W0‖₂`."""
    lipschitz: float | None = None
    """The bound of the layer's difference function, where the parameter is the weight of a linear layer."""
    fine_tuned: float | None = None
    """The largest output change per input change that was measured in the layer, in the ∞-norm."""
    pretrained: float | None = None
    """The same of the pre-trained layer."""


@dataclass
class Drift:
    """The same of a whole model: the largest row norm and bound of its parameters, and its relative distance."""

    row_norm: float
    relative: float | None = None
    lipschitz: float | None = None
    fine_tuned: float | None = None
    pretrained: float | None = None
    parameters: list[ParameterDrift] = field(default_factory=list)
    typical_fine_tuned: float | None = None
    """The output change per input change that is usual, in root mean squares; see [`ModelSensitivity`]."""
    typical_pretrained: float | None = None
    """The same of the pre-trained model."""


@dataclass
class ComparedRun:
    """One run: a method with a setting and a seed."""

    method: str
    """The name of a [`MethodFacts`]."""
    setting: dict[str, float]
    seed: int
    summary: RunSummary
    """Its evaluations are of this seed alone, with kinds `"validation"`, `"id"`, `"ood"`, `"retained"` and
    `"corrupted"`."""
    trainable_parameters: int | None = None
    optimizer_bytes: int | None = None
    """Of the optimizer's state, at the end."""
    drift: Drift | None = None
    """Where it was measured."""
    folder: str | None = None
    """Of its weights, from the comparison's folder on; `None` where they were not kept."""

    def values(self, kind: str, metric: str) -> dict[str, float]:
        """
        The figures of the data sets of a kind, by their names, as [`Evaluation.figures`] has them.

        Raises:
            ValueError: a figure is none that the metric can have, as [`check_possible`] says.
        """
        seed = str(self.seed)
        measured = {each.data: each.figures(metric) for each in self.summary.of_kind(kind)}
        values = {data: figures[seed] for data, figures in measured.items() if seed in figures}
        for data, value in values.items():
            check_possible({metric: value}, f"{self.summary.name}, {kind} data {data!r}")
        return values

    def value(self, kind: str, metric: str, prefix: str = "", left_out: Collection[str] = ()) -> float | None:
        """
        The unweighted mean over the data sets of a kind, without the kinds of corruption in `left_out`; `None` where there are
        none. With a `prefix` such as `"fog/"`, only data sets whose names start with it count.
        """
        return known_mean(
            value
            for data, value in self.values(kind, metric).items()
            if data.startswith(prefix) and corruption_of(data) not in left_out
        )


@dataclass
class ComparisonResults(SavedResults):
    """
    A comparison, finished or on its way.

    Args:
        name (`str`): of the config.
        metric (`str`): that the methods are compared by, such as `"accuracy"`.
        methods (list of [`MethodFacts`]): in the order of the config.
        seeds (list of `int`): that each method ran with, at its chosen setting.
        runs (list of [`ComparedRun`]): of all methods, settings and seeds.
        config (`dict`): as the comparison was asked for.
        command (`str`, *optional*): that made it.
        rules (list of `str`, *optional*): what models have to meet, as [`parse_rules`] reads them.
        metrics (list of [`Metric`], *optional*): of the task.
        pretrained (list of [`Evaluation`], *optional*): the model's figures before training, where it can do the task.
    """

    what = "comparison"

    name: str
    metric: str
    methods: list[MethodFacts]
    seeds: list[int]
    runs: list[ComparedRun]
    config: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    rules: list[str] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    pretrained: list[Evaluation] = field(default_factory=list)

    def method(self, name: str) -> MethodFacts:
        """The facts of a method."""
        return next(method for method in self.methods if method.name == name)

    def chosen_runs(self, method: str) -> list[ComparedRun]:
        """The runs of a method at its chosen setting, by seed; none of one that is not compared."""
        chosen = next((facts.chosen for facts in self.methods if facts.name == method), None)
        runs = [run for run in self.runs if run.method == method and run.setting == chosen and run.seed in self.seeds]
        return sorted(runs, key=lambda run: self.seeds.index(run.seed))

    def all_chosen(self) -> list[ComparedRun]:
        """The runs of all methods at their chosen settings, method by method."""
        return [run for method in self.methods for run in self.chosen_runs(method.name)]
