"""The data of a stage, and what of the earlier stages is trained with it."""

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from datasets import Dataset, concatenate_datasets

from ftp_hf.compare.run.data import Evaluated, RunData
from ftp_hf.tasks.label_space import class_indices, is_listed

from .config import StageConfig

__all__ = ["StageData", "some_rows"]


class StageData(RunData):
    """
    As [`RunData`], of a stage.

    Args:
        config ([`StageConfig`]): of the stage.

    Attributes:
        earlier (`Dataset`, *optional*): the training data of the stage before, prepared for the model.
        brings_classes (`bool`): whether there are classes that no earlier stage had.
    """

    teaches_all = False
    earlier: Dataset | None = None
    brings_classes: bool = False

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._column = config.label_column if config.task_class.has_labels else None

    @cached_property
    def evaluations(self) -> list[Evaluated]:
        """As of [`RunData`], but for the validation data, whose figures are in the log of the training."""
        return [evaluated for evaluated in super().evaluations if evaluated.facts.kind != "validation"]

    @property
    def classes(self) -> set[int]:
        """Those of the training and test data."""
        if self._column is None:
            return set()
        return class_indices(self._raw.train, self._column) | class_indices(self._raw.test, self._column)

    def after(self, stages: Sequence["StageData"], replayed: int = 0) -> "StageData":
        """The same, at its place in a stream; of each class of the earlier stages, `replayed` rows are trained too."""
        placed = copy.copy(self)
        placed.evaluations = self.evaluations  # the same, as their rows are kept
        placed.earlier = stages[-1].train if stages else None
        placed.brings_classes = bool(self.classes.difference(*(stage.classes for stage in stages)))
        if stages and replayed:
            more = [some_rows(stage._raw.train, replayed, stage._column) for stage in stages]
            placed._train_on(concatenate_datasets([self._raw.train, *more]))
        return placed

    def joined(self, stages: Sequence["StageData"]) -> "StageData":
        """The same with all training and validation data of other stages too."""
        joined = copy.copy(self)
        joined._train_on(concatenate_datasets([stage._raw.train for stage in (self, *stages)]))
        joined.validation = joined.task.prepare(
            concatenate_datasets([stage._raw.validation for stage in (self, *stages)])
        )
        return joined

    def _train_on(self, rows: Dataset) -> None:
        self._raw = dataclasses.replace(self._raw, train=rows)
        self.train = self.task.prepare(rows, augment=True)


def some_rows(dataset: Dataset, count: int, column: str | None) -> Dataset:
    """The same `count` rows each time of each class in `column`, or of all data without one; all where there are fewer."""
    mixed = dataset.shuffle(seed=0)
    if column is None or is_listed(dataset, column):
        return mixed.select(range(min(count, len(mixed))))
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(mixed[column]):
        rows_of[label].append(row)
    return mixed.select(sorted(row for rows in rows_of.values() for row in rows[:count]))
