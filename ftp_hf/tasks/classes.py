"""Turn classes that are given by name, as in a CSV file, into the indices that models are trained on."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from .label_space import is_listed, label_feature
from .row_checks import check_filled

__all__ = ["class_feature", "class_key", "in_order_of", "with_class_indices", "with_order", "with_training_indices"]


def class_feature(train: Dataset, column: str) -> ClassLabel | List | None:
    """
    The type that a column of names of classes is converted to; `None` if the training data have no names in it, or no such
    column. Their texts, lists of texts, or True and False, sorted, are the classes.
    """
    if column not in train.column_names:
        return None
    listed, given = is_listed(train, column), label_feature(train, column)
    # Lists of True and False are no lists of classes.
    if not isinstance(given, Value) or not ("string" in given.dtype or (given.dtype == "bool" and not listed)):
        return None
    found = chain.from_iterable(filter(None, train[column][:])) if listed else train[column][:]
    of_one = ClassLabel(names=sorted({str(label) for label in found if label is not None}))
    return List(of_one) if listed else of_one


def with_class_indices(
    dataset: Dataset, name: str, column: str, feature: ClassLabel | List, aliases: Mapping[str, str]
) -> Dataset:
    """
    A data set with the indices of its classes in place of their names. Numbers are read as names too, as CSV files do not tell
    them apart. It is returned unchanged if it lacks the column, has indices already, or has lists where the training data have
    none, or the other way round. `aliases` are other names for the classes.

    Raises:
        ValueError: a row has no class, or one that the training data do not have.
    """
    listed = isinstance(feature, List)
    if column not in dataset.column_names or is_listed(dataset, column) != listed:
        return dataset
    given = label_feature(dataset, column)
    if not isinstance(given, Value):
        return dataset
    check_filled(f"data set {name!r}", dataset, column)
    classes = (feature.feature if listed else feature).names
    known = {label: index for index, label in enumerate(classes)}
    rows = dataset[column][:] if listed else [[label] for label in dataset[column][:]]
    written = [[str(label) for label in labels] for labels in rows]
    # As indices, numbers would follow the order of the alphabet, which is not what they mean.
    if unknown := {label for labels in written for label in labels if aliases.get(label, label) not in known}:
        if "string" not in given.dtype:
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
    return dataset.remove_columns(column).add_column(
        column, indices if listed else [index for [index] in indices], feature=feature
    )


def with_training_indices(dataset: Dataset, column: str, labels: Sequence[str], aliases: Mapping[str, str]) -> Dataset:
    """
    A data set whose `ClassLabel` has some of the classes of the training data, as a folder of images that lacks one, with the
    indices that they have there: `labels` are their names, by index, and `aliases` other names for them. Any other data set as
    it is.
    """
    given = label_feature(dataset, column) if column in dataset.column_names else None
    if not isinstance(given, ClassLabel):
        return dataset
    names = [aliases.get(name, name) for name in given.names]
    if not {*names} < {*labels}:
        return dataset
    return _with_indices(dataset, column, [labels.index(name) for name in names], ClassLabel(names=[*labels]))


def in_order_of(head: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Labels in the order of a pre-trained head, if it has the same classes, compared without case; as they are otherwise."""
    known = {class_key(label): label for label in labels}
    order = [*map(class_key, head)]
    return [known[key] for key in order] if sorted(order) == sorted(map(class_key, labels)) else [*labels]


def class_key(label: str) -> str:
    """What is the same of two names of one class."""
    return label.strip().casefold()


def with_order(
    dataset: Dataset, column: str, labels: Sequence[str], order: Sequence[str], aliases: Mapping[str, str]
) -> Dataset:
    """
    A data set with the indices that its classes have in another order: `labels` are their names by index, `order` the same
    names in the other order, and `aliases` other names for them. One of other classes, or without the column, is left as it
    is.
    """
    given = label_feature(dataset, column) if column in dataset.column_names else None
    if given is None or [*labels] == [*order]:
        return dataset
    if isinstance(given, ClassLabel) and [aliases.get(name, name) for name in given.names] != [*labels]:
        return dataset
    feature = ClassLabel(names=[*order]) if isinstance(given, ClassLabel) else given
    return _with_indices(dataset, column, [order.index(label) for label in labels], feature)


def _with_indices(dataset: Dataset, column: str, indices: Sequence[int], feature: Any) -> Dataset:
    """With `indices[value]` for each value that is an index of `indices`, of the type `feature`."""

    def indexed(value: Any) -> Any:
        if isinstance(value, list):
            return [*map(indexed, value)]
        return indices[value] if type(value) is int and 0 <= value < len(indices) else value

    whole = List(feature) if is_listed(dataset, column) else feature
    return dataset.remove_columns(column).add_column(column, indexed(dataset[column][:]), feature=whole)
