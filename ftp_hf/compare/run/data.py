"""The data of a comparison as its model reads them: to train on, to choose by, and all that runs are evaluated on."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from datasets import Dataset

from ftp_hf.corruptions import corruption
from ftp_hf.runs.facts import DataFacts
from ftp_hf.tasks import TASKS, ImageTask, TaskData, TextTask
from ftp_hf.tasks.data import naming, sample

from .config import ComparisonConfig

__all__ = ["RunData"]

_SENSITIVITY_ROWS = 16


class RunData:
    """
    Args:
        config ([`ComparisonConfig`]): of the comparison.

    Attributes:
        task ([`TextTask`] or [`ImageTask`]): the model and what it reads.
        train, validation (`Dataset`): prepared for the model.

    Raises:
        ValueError: a data set is empty, lacks a column, has another label space or a single class; the model cannot be
            read. It names the key of the config.
    """

    def __init__(self, config: ComparisonConfig) -> None:
        self._config, self._raw = config, TaskData.load(config)
        kind = TASKS[config.task]
        try:
            self.task: TextTask | ImageTask = kind(config.model, self._raw.labels, config.reading, config.label_column)  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise ValueError(f"model: {config.model!r} cannot be read: {error}") from error
        for key, name, dataset in self._raw.named():
            with naming(key):
                self.task.check(f"data set {name!r}", dataset)
                _check_classes(name, dataset, config.label_column)
        self.train = self.task.prepare(self._raw.train, augment=True)
        self.validation = self.task.prepare(self._raw.validation)

    @cached_property
    def evaluations(self) -> list[tuple[DataFacts, Dataset]]:
        """ID validation and test data, the OOD sets, and the test data in each kind and severity of corruption."""
        return [*self._given(), *self._corrupted()]

    def sensitivity_rows(self) -> list[dict[str, Any]]:
        """Test data to measure sensitivities with."""
        test = self.task.prepare(self._raw.test.select(range(min(_SENSITIVITY_ROWS, len(self._raw.test)))))
        return [test[row] for row in range(len(test))]

    def _given(self) -> Iterator[tuple[DataFacts, Dataset]]:
        for facts, rows in self._raw.evaluations(self._config.max_eval_samples):
            yield facts, self.task.prepare(rows)

    def _corrupted(self) -> Iterator[tuple[DataFacts, Dataset]]:
        if (options := self._config.corruptions) is None:
            return
        limit = min(filter(None, (options.max_samples, self._config.max_eval_samples)), default=None)
        rows, test = sample(self._raw.test, limit), self._raw.facts["id", "test"]
        for kind in options.kinds:
            for severity in options.severities:
                facts = dataclasses.replace(test, name=f"{kind}/{severity}", kind="corrupted", size=len(rows))
                yield facts, self.task.prepare(rows, corrupt=corruption(kind, severity, options.seed))


def _check_classes(name: str, dataset: Dataset, column: str) -> None:
    if len(classes := set(dataset[column])) < 2:
        raise ValueError(
            f"data set {name!r} has a single class ({', '.join(map(str, classes))}): a model that always answers it would "
            "be perfect there. Leave the data set out, or add rows of other classes"
        )
