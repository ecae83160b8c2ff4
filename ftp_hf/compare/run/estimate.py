"""How long a comparison takes and how much memory, from a few measured steps of each method and rows of each kind of data."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from ftp_hf.common.figures import duration, size
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.runs.facts import PRETRAINED, Hardware

from .allocation import free_memory
from .caching import KeptRows, Room
from .config import ComparisonConfig
from .drift import DISTANT, FunctionDistance, measure_drift, measure_sensitivity
from .measuring import evaluator
from .method_kinds import Continued, Trained
from .methods import METHODS
from .plan import Run, count_runs, settings_of
from .runner import Runner

__all__ = ["Estimate", "estimate"]

_STEPS = 3
_BATCHES = 4


@dataclass
class Estimate:
    """
    What a comparison would take on this machine, a run at a time.

    Args:
        training (`dict[str, float]`): method → seconds of all of its runs, with the evaluations after each epoch.
        evaluation (`float`): seconds of what is measured of the trained models.
        memory (`dict[str, int]`): method → bytes at most: of the device, or of the process on the CPU.
        device (`str`): what it was measured on.
        is_most (`bool`): whether a method may end with fewer runs.
    """

    training: dict[str, float] = field(default_factory=dict)
    evaluation: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    device: str = ""
    is_most: bool = False

    def describe(self) -> str:
        """The estimate in a paragraph."""
        total = sum(self.training.values()) + self.evaluation
        parts = ", ".join(f"{METHODS[name].title} {duration(seconds)}" for name, seconds in self.training.items())
        hungriest = max(self.memory, key=lambda name: self.memory[name], default=None)
        memory = f" Memory: up to {size(self.memory[hungriest])} ({METHODS[hungriest].title})." if hungriest else ""
        return (
            f"It would take {'at most ' * self.is_most}about {duration(total)} in all: {parts}; evaluation {duration(self.evaluation)}."
            f"{memory} An estimate from {_STEPS} steps of each method and {_BATCHES} batches of each kind of data on {self.device}, "
            "for one run at a time; writing to the disk is not in it, nor are prepared rows, which are kept in up to 3 GiB."
        )


def estimate(runner: Runner) -> Estimate:
    """
    Train a few steps of each method, evaluate a few batches of each kind of data, and multiply. Models are trained in memory;
    nothing is kept.
    """
    config, found = runner.config, Estimate()
    evaluation = _Evaluation(runner)
    if isinstance(runner.data.train, KeptRows):  # rows that one method had to make, others would find
        runner.data.train = KeptRows(runner.data.train, Room(0))
    for name in config.methods:
        method = METHODS[name]
        if isinstance(method, Trained):
            found.training[name], hardware = _training(runner, name, evaluation.validation)
            found.memory[name], found.device = hardware.peak_memory_bytes or 0, hardware.device
    for name in config.methods:
        if isinstance(METHODS[name], Continued):
            base = str(METHODS[name].base)
            each = found.training[base] / count_runs(config, base)
            found.training[name], found.is_most = each * count_runs(config, name), True
    found.evaluation = evaluation.seconds(config)
    return found


def _training(runner: Runner, name: str, validation: float) -> tuple[float, Hardware]:
    """The seconds of all runs of a method, and what one of them is trained on."""
    config, folder = runner.config, runner.runs / "_estimate"
    run = Run(name, settings_of(config, name)[0], config.sweep_seed)
    clock = _Clock()
    little = {"max_steps": 1 + _STEPS, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    trainer = runner.trained.make_trainer(run, folder, overrides=little)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    per_epoch = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    asked = config.training.get("max_steps", -1)
    lengths = [each.get("num_train_epochs", trainer.args.num_train_epochs) for each in settings_of(config, name)]
    steps = asked if asked > 0 else math.ceil(statistics.fmean(lengths) * per_epoch)
    trainer.train()
    hardware: Hardware = trainer.run_summary().hardware
    del trainer
    free_memory()
    each = clock.before + steps * clock.step + math.ceil(steps / per_epoch) * validation
    return count_runs(config, name) * each, hardware


class _Clock(TrainerCallback):
    """When the steps of a training end; the first is left out, as it has caches to fill."""

    def __init__(self) -> None:
        self._start, self._begun, self._ends = _now(), 0.0, list[float]()

    @property
    def before(self) -> float:
        """Seconds until the first step begins: the model is loaded, and methods make ready."""
        return self._begun - self._start

    @property
    def step(self) -> float:
        """Seconds of a step, its batch included."""
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step starts."""
        self._begun = self._begun or _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It has ended."""
        self._ends.append(_now())


class _Evaluation:
    """
    The times of what is measured of a model.

    Args:
        runner ([`Runner`]): whose data they are.

    Attributes:
        validation (`float`): seconds on the ID validation data.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner, self._task = runner, runner.data.task
        self._load, self._model = _timed(self._task.load_model)
        self._pretrained = self._task.load_model()
        self._new = new_parameters(self._pretrained)
        self._trainer = evaluator(runner.trained, Run(PRETRAINED, {}, runner.config.sweep_seed), self._model)
        self._prepare, self.validation, self._test = self._answers()
        self._distance, self._drift = self._distances(), self._drifts()

    def _answers(self) -> tuple[float, float, float]:
        """Seconds in which all data are prepared, which is done once, and the model answers validation and test data."""
        rows = _BATCHES * self._trainer.args.eval_batch_size
        by_kind: dict[str, tuple[float, float]] = {}
        prepare = validation = test = 0.0
        for facts, dataset, _, corrupt in self._runner.data.evaluations:
            if facts.kind not in by_kind:
                some = dataset.select(range(min(rows, len(dataset))))
                measure = partial(self._task.measure, self._trainer, some, corrupt=corrupt)
                first, again = (_timed(measure)[0] / len(some) for _ in range(2))
                by_kind[facts.kind] = max(0.0, first - again), again
            prepared, answered = (len(dataset) * each for each in by_kind[facts.kind])
            prepare += prepared
            if facts.kind == "validation":
                validation += answered
            else:
                test += answered
        return prepare, validation, test

    def _distances(self) -> float:
        """Seconds in which it is measured how differently two models answer, of one of which the answers are known."""
        sets = [each.first for each in self._runner.data.evaluations if each.facts.kind in DISTANT]
        measure = partial(FunctionDistance(self._task, self._pretrained).measure, self._model, sets[0])
        measure()
        return len(sets) * _timed(measure)[0]

    def _drifts(self) -> float:
        """Seconds in which distances of weights, and sensitivities, are measured."""
        device, rows = self._trainer.args.device, self._runner.data.sensitivity_rows
        models = self._model, self._pretrained.to(device)
        batch = {name: value.to(device) for name, value in self._task.collator(rows).items()} if rows else {}
        known = measure_sensitivity(*models, batch) if batch else None

        def measure() -> None:
            sensitivity = measure_sensitivity(*models, batch, known) if batch else None
            measure_drift(*models, self._new, sensitivity)

        return _timed(measure)[0]

    def seconds(self, config: ComparisonConfig) -> float:
        """Of all runs of a comparison that are evaluated."""
        settings = {name: len(settings_of(config, name)) for name in config.methods}
        trained = [name for name in settings if isinstance(METHODS[name], Trained | Continued)]
        chosen = {
            name: 1 if name in trained and not config.every_setting else count for name, count in settings.items()
        }
        computed = sum(count for name, count in settings.items() if name not in trained) * len(config.seeds)
        each = self._test + self._distance + 2 * self._load
        before = 0.0 if self._new else self._test + self.validation
        # Sensitivities are those of one seed; ID validation of a training is known.
        return (
            self._prepare
            + before
            + sum(chosen.values()) * len(config.seeds) * each
            + computed * self.validation
            + len(trained) * self._drift
        )


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    start = _now()
    done = do()
    return _now() - start, done


def _now() -> float:
    """The time, once the device has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
