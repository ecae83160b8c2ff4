"""One label space for all data sets: the names of the classes, and checks that every data set is labelled by them."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, Value

from .row_checks import check_column, check_filled, check_rows

__all__ = ["check_labels", "class_indices", "is_listed", "label_feature", "label_names"]


def label_names(dataset: Dataset, column: str) -> list[str]:
    """
    The names of the classes of the training data, by index; the column holds class indices, or lists of them.

    Raises:
        ValueError: there is no such column, a row is empty there, or it holds something else; numbers do not count from 0; two
            names differ only in the spaces around them.
    """
    feature = _class_feature("the training data", dataset, column)
    if isinstance(feature, ClassLabel):
        _check_distinct(feature.names, column)
        return list(feature.names)
    found = sorted(class_indices(dataset, column))
    if not found:
        raise ValueError(f"no row of the training data has a class in {column!r}")
    if found != [*range(len(found))]:
        raise ValueError(
            f"the training data has the classes {', '.join(map(str, found[:10]))}{', …' * (len(found) > 10)} in {column!r}, and "
            f"numbers have to count from 0 without a gap: {_renumbered(found)}"
        )
    return [str(index) for index in found]


def is_listed(dataset: Dataset, column: str) -> bool:
    """Whether a row has a list of classes: those of its words, or all that it is of."""
    return isinstance(dataset.features[column], List | LargeList)


def label_feature(dataset: Dataset, column: str) -> Any:
    """The type of a class in a column of them, or of lists of them."""
    feature = dataset.features[column]
    return feature.feature if is_listed(dataset, column) else feature


def class_indices(dataset: Dataset, column: str) -> set[int]:
    """The class indices that occur in a column of them, or of lists of them."""
    values = dataset[column]
    return set(chain.from_iterable(values) if is_listed(dataset, column) else values)


def check_labels(name: str, dataset: Dataset, column: str, labels: Sequence[str], aliases: Mapping[str, str]) -> None:
    """
    Raise if a data set has other labels than the training data, as its accuracy would be wrong. `labels` are theirs by index,
    and `aliases` other names for them.

    Raises:
        ValueError: the data set is empty, lacks the column or a label, or has other labels.
    """
    check_rows(name, dataset)
    feature = _class_feature(f"data set {name!r}", dataset, column)
    if isinstance(feature, ClassLabel) and [aliases.get(label, label) for label in feature.names] != list(labels):
        raise ValueError(
            f"data set {name!r} has the labels {feature.names}, but the training data has {labels}; if they mean the "
            "same, say so with label_aliases OTHER=LABEL"
        )
    if unknown := class_indices(dataset, column) - set(range(len(labels))):
        raise ValueError(f"data set {name!r} has the labels {sorted(unknown)}, outside 0 … {len(labels) - 1}")


def _renumbered(found: Sequence[int]) -> str:
    first = found[0]
    if found == [*range(first, first + len(found))]:
        return f"{f'subtract {first} from' if first > 0 else f'add {-first} to'} each, or write names"
    changed = [f"{index} for {label}" for index, label in enumerate(found) if index != label]
    return f"write {', '.join(changed[:10])}{', …' * (len(changed) > 10)}, or write names"


def _check_distinct(labels: Sequence[str], column: str) -> None:
    known: dict[str, str] = {}
    for label in labels:
        if (other := known.setdefault(label.strip(), label)) != label:
            raise ValueError(
                f"the training data has the classes {other!r} and {label!r} in {column!r}, which differ only in the spaces around "
                "them: write them alike"
            )


def _class_feature(name: str, dataset: Dataset, column: str) -> Any:
    """The type of the classes, or an error if they are no indices."""
    check_column(name, dataset, column, "label_column")
    # First: beside an empty cell, the whole numbers of a CSV file are read as fractions, which would be blamed instead.
    check_filled(name, dataset, column)
    feature = label_feature(dataset, column)
    if is_listed(dataset, column) and feature == Value("bool"):
        raise ValueError(
            f"the lists in {column!r} of {name} hold True and False, which looks like one value per class: write the indices "
            "of the classes that apply, or their names"
        )
    if not re.fullmatch(r"u?int\d+|null", str(getattr(feature, "dtype", ""))):
        raise ValueError(
            f"the column {column!r} must hold class indices from 0 on, but {name} has {feature} in it: write whole numbers, such "
            "as 0 and 1, or names in all data sets"
        )
    return feature
