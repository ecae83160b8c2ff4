"""Classes by name, as a table of one's own has them, turned into the indices that models are trained on."""

from collections.abc import Mapping
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from .specs import is_listed, label_feature

__all__ = ["with_class_indices"]


def with_class_indices(train: Dataset, dataset: Dataset, name: str, column: str, aliases: Mapping[str, str]) -> Dataset:
    """
    A data set whose classes are indices among those of the training data: itself, unless either has names for them.

    Args:
        train (`Dataset`): the training data. The classes are the names of their `ClassLabel`, or the texts in their column, or True
            and False, sorted; or those in its lists.
        dataset (`Dataset`): of the same form. Numbers in it are read as names where the training data have texts, as CSV files do not
            tell them apart. A `ClassLabel` that counts some of the classes is counted anew, as of a folder that lacks one.
        name (`str`): of it, for the error.
        column (`str`): of the classes; what has no such column is left as it is.
        aliases (mapping from `str` to `str`): other names for them.

    Raises:
        ValueError: a row has no class, or one that the training data do not have.
    """
    classes = _classes(train, column)
    if not classes or not _is_by_name(train, dataset, column, classes, aliases):
        return dataset
    given, listed = _rows(dataset, column), is_listed(dataset, column)
    if empty := [row for row, labels in enumerate(given) if None in labels]:
        raise ValueError(
            f"data set {name!r} has rows without {column!r}, {len(empty)} of them: fill or drop them, from row {empty[0]} on"
        )
    known = {label: index for index, label in enumerate(classes)}
    # As indices, numbers would follow the order of the alphabet, which nobody who wrote them had in mind.
    written = [[str(label) for label in labels] for labels in given]
    if unknown := {label for labels in written for label in labels if aliases.get(label, label) not in known}:
        if (says := _says(dataset, column)) and "string" not in says:
            raise ValueError(
                f"the training data have names in {column!r} ({', '.join(classes[:10])}), data set {name!r} numbers "
                f"({', '.join(sorted(unknown)[:10])}): write names in it, or say what each number means with label_aliases "
                "NUMBER=LABEL"
            )
        raise ValueError(
            f"data set {name!r} has the labels {sorted(unknown)[:10]}, which the training data does not have; if they mean "
            "the same as others, say so with label_aliases OTHER=LABEL"
        )
    indices = [[known[aliases.get(label, label)] for label in labels] for labels in written]
    of_one = ClassLabel(names=classes)
    return dataset.remove_columns(column).add_column(
        column, indices if listed else [index for [index] in indices], feature=List(of_one) if listed else of_one
    )


def _classes(train: Dataset, column: str) -> list[str]:
    """The names of the training data; none where they have indices alone."""
    if names := _names(train, column):
        return names
    says = _says(train, column)
    # Lists of True and False are no lists of classes.
    if "string" not in says and (says != "bool" or is_listed(train, column)):
        return []
    return sorted({str(label) for labels in _rows(train, column) for label in labels if label is not None})


def _is_by_name(train: Dataset, dataset: Dataset, column: str, classes: list[str], aliases: Mapping[str, str]) -> bool:
    """Whether the names of a data set tell its classes, and not its indices."""
    if column not in dataset.column_names or is_listed(dataset, column) != is_listed(train, column):
        return False
    if names := [aliases.get(name, name) for name in _names(dataset, column)]:
        return names != classes and set(names) <= set(classes)
    says = _says(dataset, column)
    return "string" in says if _names(train, column) else bool(says)


def _rows(dataset: Dataset, column: str) -> list[list[Any]]:
    """The classes of each row, by their names where they have such."""
    listed, names = is_listed(dataset, column), dict(enumerate(_names(dataset, column)))
    rows = (labels if listed and labels is not None else [labels] for labels in dataset[column][:])
    return [[names.get(label, label) for label in labels] for labels in rows]


def _names(dataset: Dataset, column: str) -> list[str]:
    """Those of a [`ClassLabel`]."""
    feature = label_feature(dataset, column) if column in dataset.column_names else None
    return list(feature.names) if isinstance(feature, ClassLabel) else []


def _says(dataset: Dataset, column: str) -> str:
    """The type of what rows say themselves of a class: nothing of indices of [`ClassLabel`]."""
    feature = label_feature(dataset, column) if column in dataset.column_names else None
    return str(feature.dtype) if isinstance(feature, Value) else ""
