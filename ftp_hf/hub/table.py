"""What each version of a repository can do, as a table: how a model's abilities developed from stage to stage."""

from collections.abc import Sequence

from rich.table import Table

from ftp_hf.common.figures import show
from ftp_hf.runs.figures import abilities

from .versions import Version

__all__ = ["abilities_table"]

_LASTING = ("earlier/", "retained/")
"""What there is to keep from version to version."""


def abilities_table(versions: Sequence[Version]) -> Table | None:
    """
    A row for each version, a column for each stage's test set and each retained set; `None` where no version was evaluated on
    an earlier stage or a retained set.
    """
    figures = [version.figures or {} for version in versions]
    if not any(name.startswith(_LASTING) for each in figures for name in each):
        return None
    table = Table("version", title="What each version can do")
    columns = abilities(figures)
    for each in columns:
        unit = "" if each.metric == "accuracy" else f" ({each.metric.replace('_', ' ')})"
        table.add_column(f"{each.title}{unit}", justify="right")
    for number, version in enumerate(versions):
        values = [(each.values[number], each.metric) for each in columns]
        table.add_row(version.tag, *("" if value is None else show(value, metric) for value, metric in values))
    return table
