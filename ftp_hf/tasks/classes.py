"""Classes by name, as a table of one's own has them, turned into the indices that models are trained on."""

from collections.abc import Mapping
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from .cells import check_filled
from .specs import is_listed, label_feature

__all__ = ["with_class_indices"]


def with_class_indices(train: Dataset, dataset: Dataset, name: str, column: str, aliases: Mapping[str, str]) -> Dataset:
    """
    A data set whose classes are indices: itself, unless the training data have texts in its column, lists of them, or True and
    False.

    Args:
        train (`Dataset`): the training data, whose names, sorted, are the classes.
        dataset (`Dataset`): of the same form; numbers in it are read as names too, which CSV files do not tell apart.
        name (`str`): of it, for the error.
        column (`str`): of the classes; what has no such column is left as it is.
        aliases (mapping from `str` to `str`): other names for them.

    Raises:
        ValueError: a row has no class, or one that the training data do not have.
    """
    (listed, given_type), (train_listed, train_type) = _type(dataset, column), _type(train, column)
    # Lists of True and False are no lists of classes.
    is_named = "string" in train_type or (train_type == "bool" and not train_listed)
    if not is_named or not given_type or listed != train_listed:
        return dataset
    check_filled(f"data set {name!r}", dataset, column)
    classes = sorted({str(label) for labels in _rows(train, column) for label in labels if label is not None})
    known = {label: index for index, label in enumerate(classes)}
    # As indices, numbers would follow the order of the alphabet, which nobody who wrote them had in mind.
    written = [[str(label) for label in labels] for labels in _rows(dataset, column)]
    if unknown := {label for labels in written for label in labels if aliases.get(label, label) not in known}:
        if "string" not in given_type:
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


def _rows(dataset: Dataset, column: str) -> list[list[Any]]:
    """The classes of each row."""
    listed = is_listed(dataset, column)
    return [labels if listed and labels is not None else [labels] for labels in dataset[column][:]]


def _type(dataset: Dataset, column: str) -> tuple[bool, str]:
    """
    Whether rows have lists of classes, and the type of what they say themselves of a class: nothing of indices of
    [`ClassLabel`], whose names are beside them.
    """
    if column not in dataset.column_names:
        return False, ""
    feature = label_feature(dataset, column)
    return is_listed(dataset, column), feature.dtype if isinstance(feature, Value) else ""
