"""The data of a comparison as its model reads them: to train on, to choose by, and all that runs are evaluated on."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import Tensor, nn

from ftp_hf.common.problems import Problems
from ftp_hf.corruptions import corruption
from ftp_hf.runs.facts import DataFacts
from ftp_hf.tasks import Task, TaskData
from ftp_hf.tasks.classifier import pretrained_labels
from ftp_hf.tasks.data import naming, sample
from ftp_hf.tasks.label_space import is_listed
from ftp_hf.tasks.model_folder import check_model_folder

from .caching import Room, preparing_once
from .config import ComparisonConfig
from .drift import DISTANT
from .overlap import check_rows_apart, known_inputs

__all__ = ["Evaluated", "RunData"]

logger = logging.getLogger(__name__)

_DISTANCE_ROWS = 64
_SENSITIVITY_ROWS = 16
_CALIBRATION_ROWS = 256
_SHOWN_CLASSES = 10


class RunData:
    """
    Args:
        config ([`ComparisonConfig`]): of the comparison.

    Attributes:
        room ([`Room`]): in memory, for what all runs need alike.
        task ([`Task`]): the model and what it reads.
        train, validation (`Dataset`): prepared for the model.
        train_facts ([`DataFacts`]): where the training data come from.
        teaches_all (`bool`): whether they have to hold all classes, as [`Task.check_training`] checks.

    Raises:
        ValueError: a data set is empty, lacks a column, has another label space or a single class; the model cannot be
            read. It names the key of the config. What else is wrong are notes of the error.
        FileNotFoundError: likewise, if the first is a file that is not there.
    """

    teaches_all: ClassVar[bool] = True

    def __init__(self, config: ComparisonConfig) -> None:
        kind, problems = config.task_class, Problems()
        with problems.gathered():
            raw = TaskData.load(config, has_labels=kind.has_labels, head=pretrained_labels(config.model))
            check_rows_apart(vars(config))
        with problems.gathered(), _reading_model(config.model):
            check_model_folder(config.model)
        problems.raise_all()
        self._config, self._raw, self.room = config, raw, Room()
        with _reading_model(config.model):
            self.task: Task[Any] = preparing_once(kind, self.room)(
                config.model, config.reading, labels=raw.labels, label_column=config.label_column
            )
        for key, name, dataset, numbers in raw.named():
            with problems.gathered(), naming(key, numbers):
                check = self.task.check_training if key == "train" and self.teaches_all else self.task.check
                check(f"data set {name!r}", dataset)
                if kind.has_labels:
                    _check_classes(name, dataset, config.label_column)
        problems.raise_all()
        self.train_facts = next(facts for facts in self._raw.facts.values() if facts.kind == "train")
        self.train = self.task.prepare(self._raw.train, augment=True)
        self.validation = self.task.prepare(self._raw.validation)

    def describe(self) -> list[str]:
        """How many rows each data set has, how many of them each class, and how many are in train too, in a line a set."""
        lines = []
        for key, name, rows, _ in self._raw.named():
            known = self._known.get((key, name))
            lines.append(
                f"{_called(key, name)}: {len(rows)} row{'s' * (len(rows) > 1)}{self._classes_of(rows)}"
                f"{f'; {known} with the input of a row of train' if known else ''}"
            )
        return lines

    def warn_of_known(self) -> None:
        """
        Say in the log which sets have rows with the input of a training row. The first process alone does: all rows are read for it,
        and files of images and sounds.
        """
        if not PartialState().is_main_process:
            return
        sizes = {(key, name): len(rows) for key, name, rows, _ in self._raw.named()}
        for (key, name), count in self._known.items():
            if count:
                logger.warning(
                    "%d of %d rows of %s have the input of a row of train, so that learning by heart is rewarded there: leave them out of "
                    "one of the two, unless new data repeat old ones as well",
                    count,
                    sizes[key, name],
                    _called(key, name),
                )

    @cached_property
    def evaluations(self) -> list["Evaluated"]:
        """ID validation and test data, the OOD and retained sets, and the test data in each kind and severity of corruption."""
        return [*self._given(), *self._corrupted()]

    @cached_property
    def sensitivity_rows(self) -> list[dict[str, Any]]:
        """Test data to measure sensitivities with."""
        test = self.task.prepare(self._raw.test.select(range(min(_SENSITIVITY_ROWS, len(self._raw.test)))))
        return [test[row] for row in range(len(test))]

    @torch.no_grad()
    def calibrate(self, model: nn.Module, rows: int = _CALIBRATION_ROWS) -> None:
        """Run a model on a sample of the training inputs, one by one, so that none is padded for another."""
        model.to(PartialState().device)
        answer = self.task.logits if self.task.has_logits else self.task.hidden
        for batch in self.task.batches(sample(self._raw.train, rows), 1):
            tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
            answer(model, {name: value.to(PartialState().device) for name, value in tensors.items()})

    @cached_property
    def _known(self) -> dict[tuple[str, str], int]:
        """Of each set that is measured, how many rows have the input of a training row."""
        others = {(key, name): rows for key, name, rows, _ in self._raw.named() if key != "train"}
        counts = known_inputs(self.task, self._raw.train, [*others.values()])
        return dict(zip(others, counts, strict=True))

    def _classes_of(self, rows: Dataset) -> str:
        column = self._config.label_column
        if not self._raw.labels or is_listed(rows, column):
            return ""
        counts = Counter(rows[column]).most_common()
        first = ", ".join(f"{self._raw.labels[index]} {count}" for index, count in counts[:_SHOWN_CLASSES])
        return f" of {len(counts)} classes: {first}{', …' * (len(counts) > _SHOWN_CLASSES)}"

    def _given(self) -> Iterator["Evaluated"]:
        for facts, rows in self._raw.evaluations(self._config.max_eval_samples):
            first = rows.select(range(_DISTANCE_ROWS)) if facts.kind in DISTANT and len(rows) > _DISTANCE_ROWS else rows
            yield Evaluated(facts, rows, first)

    def _corrupted(self) -> Iterator["Evaluated"]:
        if (options := self._config.corruptions) is None:
            return
        limit = min(filter(None, (options.max_samples, self._config.max_eval_samples)), default=None)
        rows, test = sample(self._raw.test, limit), self._raw.facts["id", "test"]
        for kind in options.kinds:
            for severity in options.severities:
                facts = dataclasses.replace(test, name=f"{kind}/{severity}", kind="corrupted", size=len(rows))
                yield Evaluated(facts, rows, rows, corruption(kind, severity, options.seed))


class Evaluated(NamedTuple):
    """What a model is evaluated on."""

    facts: DataFacts
    rows: Dataset
    """As they were loaded."""
    first: Dataset
    """Those on which it is measured how differently two models answer."""
    corrupt: Callable[[Any], Any] | None = None
    """What changes each of them first."""


def _called(key: str, name: str) -> str:
    return key if key == name else f"{key}/{name}"


@contextmanager
def _reading_model(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(f"model: {name!r} cannot be read: {error}") from error


def _check_classes(name: str, dataset: Dataset, column: str) -> None:
    values = dataset[column]
    if len(classes := {tuple(value) if isinstance(value, list) else value for value in values}) < 2:
        raise ValueError(
            f"data set {name!r} has a single class ({', '.join(map(str, classes))}): a model that always answers it would "
            "be perfect there. Leave the data set out, or add rows of other classes"
        )
