"""Evaluations on corrupted copies of test data: of which corruption one is, and which corruptions change nothing."""

import math
from collections.abc import Iterable, Mapping, Sequence

from .facts import Evaluation

__all__ = ["corruption_of", "inert_among"]


def corruption_of(data: str) -> str:
    """The kind of corruption of a data set: `"fog"` of `"fog/3"`."""
    return data.rpartition("/")[0]


def inert_among(models: Iterable[Sequence[Evaluation]]) -> list[str]:
    """
    The kinds of corruption that change nothing for models, as casing does for an uncased tokenizer: of each model all that was
    measured, the loss included, is the same at each of several severities. Corrupted data sets are called `"KIND/SEVERITY"`.
    Empty where all kinds would be such; figures that are not finite do not count.
    """
    measured: dict[str, list[list[Mapping[str, Mapping[str, float]]]]] = {}
    for results in models:
        by_kind: dict[str, list[Mapping[str, Mapping[str, float]]]] = {}
        for result in results:
            if result.kind == "corrupted" and _is_finite(result):
                by_kind.setdefault(corruption_of(result.data), []).append(result.metrics)
        for kind, metrics in by_kind.items():
            measured.setdefault(kind, []).append(metrics)
    inert = [
        kind
        for kind, by_model in measured.items()
        if all(len(metrics) > 1 and all(each == metrics[0] for each in metrics) for metrics in by_model)
    ]
    return inert if len(inert) < len(measured) else []


def _is_finite(result: Evaluation) -> bool:
    return all(math.isfinite(value) for of_seeds in result.metrics.values() for value in of_seeds.values())
