"""Classes by name, as a table of one's own has them, turned into the indices that models are trained on."""

import re
from collections.abc import Mapping

from datasets import ClassLabel, Dataset, Value

__all__ = ["with_class_indices"]


def with_class_indices(train: Dataset, dataset: Dataset, name: str, column: str, aliases: Mapping[str, str]) -> Dataset:
    """
    A data set whose classes are indices: itself, unless the training data have texts in its column, or True and False.

    Args:
        train (`Dataset`): the training data, whose names, sorted, are the classes.
        dataset (`Dataset`): of the same form; numbers in it are read as names too, which CSV files do not tell apart.
        name (`str`): of it, for the error.
        column (`str`): of the classes; what has no such column is left as it is.
        aliases (mapping from `str` to `str`): other names for them.

    Raises:
        ValueError: a row has no class, or one that the training data do not have.
    """
    own = _type(dataset, column)
    if not own or not re.search("string|bool", _type(train, column)):
        return dataset
    classes = sorted(str(label) for label in train.unique(column) if label is not None)
    given = list(dataset[column])
    if empty := given.count(None):
        raise ValueError(
            f"data set {name!r} has rows without {column!r}, {empty} of them: fill or drop them, from row {given.index(None)} on"
        )
    known = {label: index for index, label in enumerate(classes)}
    # As indices, numbers would follow the order of the alphabet, which nobody who wrote them had in mind.
    written = [str(label) for label in given]
    if unknown := {label for label in written if aliases.get(label, label) not in known}:
        if "string" not in own:
            raise ValueError(
                f"the training data have names in {column!r} ({', '.join(classes[:10])}), data set {name!r} numbers "
                f"({', '.join(sorted(unknown)[:10])}): write names in it, or say what each number means with label_aliases "
                "NUMBER=LABEL"
            )
        raise ValueError(
            f"data set {name!r} has the labels {sorted(unknown)[:10]}, which the training data does not have; if they mean "
            "the same as others, say so with label_aliases OTHER=LABEL"
        )
    indices = [known[aliases.get(label, label)] for label in written]
    return dataset.remove_columns(column).add_column(column, indices, feature=ClassLabel(names=classes))


def _type(dataset: Dataset, column: str) -> str:
    """Of what the rows say themselves of their class; indices of [`ClassLabel`] have their names beside them."""
    feature = dataset.features.get(column)
    return feature.dtype if isinstance(feature, Value) else ""
