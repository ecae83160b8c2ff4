"""Load data sets by Hub name or local path, and check that they share one label space."""

import re
from pathlib import Path
from typing import NamedTuple

from datasets import ClassLabel, Dataset, load_dataset

_SPEC = re.compile(
    r"((?P<name>[\w-]+)=)?(?P<source>[^#?:]+)(:(?P<config>[^#?]+))?(#(?P<split>[^?]+))?(\?(?P<column>\w+)=(?P<value>.+))?"
)


class DatasetSpec(NamedTuple):
    """
    One data set: `[NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE]`.

    `SOURCE` is a local file (Parquet, CSV, JSON), a local folder or a name on the Hub; `SPLIT` defaults to `train`;
    `?COLUMN=VALUE` keeps the rows whose column has that value. `NAME` is what the data set is called in the results and
    defaults to the file's or data set's own name.
    """

    name: str
    source: str
    config: str | None
    split: str
    column: str | None
    value: str | None

    @classmethod
    def parse(cls, text: str) -> "DatasetSpec":
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ValueError(f"data set {text!r} is not of the form [NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE]")
        parts = match.groupdict()
        return cls(
            name=parts["name"] or Path(parts["source"]).stem,
            source=parts["source"],
            config=parts["config"],
            split=parts["split"] or "train",
            column=parts["column"],
            value=parts["value"],
        )

    def load(self) -> Dataset:
        path = Path(self.source)
        if path.is_file():
            if self.split != "train":
                raise ValueError(f"{self.source} is a file and has no split {self.split!r}: leave #{self.split} out")
            builder = {".jsonl": "json"}.get(path.suffix, path.suffix.removeprefix("."))
            dataset = load_dataset(builder, data_files=str(path), split="train")
        else:
            dataset = load_dataset(self.source, self.config, split=self.split)
        if self.column is not None:
            rows = [row for row, value in enumerate(dataset[self.column]) if str(value) == self.value]
            if not rows:
                raise ValueError(f"{self.source}: no row has {self.column}={self.value}")
            dataset = dataset.select(rows)
        return dataset


def label_names(dataset: Dataset, column: str) -> list[str]:
    feature = dataset.features.get(column)
    if feature is None:
        raise ValueError(f"the training data has no column {column!r}; it has {', '.join(dataset.column_names)}")
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    return [str(label) for label in sorted(set(dataset[column]))]


def check_labels(name: str, dataset: Dataset, column: str, labels: list[str], aliases: dict[str, str]) -> None:
    """Raise if `dataset` is not labelled as the training data is: a wrong accuracy would follow."""
    if len(dataset) == 0:
        raise ValueError(f"data set {name!r} is empty")
    if column not in dataset.column_names:
        raise ValueError(f"data set {name!r} has no column {column!r}; it has {', '.join(dataset.column_names)}")
    feature = dataset.features[column]
    if isinstance(feature, ClassLabel) and [aliases.get(label, label) for label in feature.names] != labels:
        raise ValueError(
            f"data set {name!r} has the labels {feature.names}, but the training data has {labels}; if they mean the "
            "same, say so with --label_aliases OTHER=LABEL"
        )
    if unknown := set(dataset[column]) - set(range(len(labels))):
        raise ValueError(f"data set {name!r} has the labels {sorted(unknown)}, outside 0 … {len(labels) - 1}")
