"""Figures of single classes in a report: those that changed most, on each data set."""

from ftp_hf.common.figures import mean_and_sd
from ftp_hf.compare.evidence.classes import (
    class_figures,
    class_measure,
    class_sets,
    most_changed,
    pretrained_classes,
)
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.runs.facts import PRETRAINED

from .blocks import Block, Table, Text

__all__ = ["classes"]

_SHOWN = 12
"""Of the classes of a data set, at most."""
_MEASURES = {
    "recall": "Recall: the share of a class that is recognised",
    "f1": "F1, of precision and recall",
    "iou": "IoU: the pixels rightly assigned to a class, of all that belong to it or are assigned to it",
}
_AS_SHARE = "accuracy"  # how all of them are printed


def classes(results: ComparisonResults) -> list[Block]:
    """
    A table for the ID test set and each OOD set, with the classes first on which methods differ most; empty where no class was
    measured.
    """
    measure = class_measure(results)
    if measure is None:
        return []
    tables = [_table(results, kind, data) for kind, data in class_sets(results)]
    note = (
        f"{_MEASURES.get(measure, measure)}, in %, mean ± standard deviation over the seeds. Classes come first where a method "
        "differs most from plain fine-tuning, or from the pre-trained model where plain fine-tuning is not compared. No claim is made "
        "about single classes: of many, some differ by chance."
    )
    count = max(len(most_changed(results, kind, data)) for kind, data in class_sets(results))
    left_out = f" At most {_SHOWN} are shown of each data set; results.json has all {count}." if count > _SHOWN else ""
    return [Text(note + left_out), *tables]


def _table(results: ComparisonResults, kind: str, data: str) -> Table:
    columns = {PRETRAINED: pretrained_classes(results, kind, data)}
    columns |= {method.title: class_figures(results, method.name, kind, data) for method in results.methods}
    columns = {title: figures for title, figures in columns.items() if figures}
    rows = [
        [name, *(mean_and_sd(figures.get(name, []), _AS_SHARE) for figures in columns.values())]
        for name in most_changed(results, kind, data)[:_SHOWN]
    ]
    return Table([f"{'ID' if kind == 'id' else 'OOD'} {data}", *columns], rows)
