"""Classes by name, as a table of one's own has them, turned into the indices that models are trained on."""

from collections.abc import Mapping

from datasets import ClassLabel, Dataset, Value

__all__ = ["with_class_indices"]


def with_class_indices(train: Dataset, dataset: Dataset, name: str, column: str, aliases: Mapping[str, str]) -> Dataset:
    """
    A data set whose classes are indices: itself, unless its column holds texts.

    Args:
        train (`Dataset`): the training data, whose names, sorted, are the classes.
        dataset (`Dataset`): of the same form.
        name (`str`): of it, for the error.
        column (`str`): of the classes; what has no such column is left as it is.
        aliases (mapping from `str` to `str`): other names for them.

    Raises:
        ValueError: a row has no class, or one that the training data do not have.
    """
    if not (_holds_names(train, column) and _holds_names(dataset, column)):
        return dataset
    classes = sorted(label for label in train.unique(column) if label is not None)
    given = dataset[column]
    known = {label: index for index, label in enumerate(classes)}
    if unknown := {label for label in given if label is not None and aliases.get(label, label) not in known}:
        raise ValueError(
            f"data set {name!r} has the labels {sorted(unknown)[:10]}, which the training data does not have; if they mean "
            "the same as others, say so with label_aliases OTHER=LABEL"
        )
    if empty := list(given).count(None):
        raise ValueError(f"data set {name!r} has rows without {column!r}, {empty} of them: fill or drop them")
    indices = [known[aliases.get(label, label)] for label in given]
    return dataset.remove_columns(column).add_column(column, indices, feature=ClassLabel(names=classes))


def _holds_names(dataset: Dataset, column: str) -> bool:
    feature = dataset.features.get(column)
    return isinstance(feature, Value) and "string" in feature.dtype
