"""The section of a model card on stages of training that followed one another: what the model could do after each."""

from ftp_hf.common.figures import metric_title, show, table
from ftp_hf.runs.facts import StageFacts
from ftp_hf.runs.figures import abilities, figures_of, stages_of
from ftp_hf.runs.summary import RunSummary

__all__ = ["STAGES_NOTE", "stages_table"]

STAGES_NOTE = (
    "What the model could do after each stage of its training: rows are stages, columns the test set of each and what the "
    "pre-trained model could do. In bold a stage right after it was trained: what is less below it was lost since."
)


def stages_table(summary: RunSummary) -> str:
    """A row after each stage, and before any where that is known; empty where the training followed no other."""
    if not summary.stages:
        return ""
    before = StageFacts(figures_of(summary.pretrained.results)) if summary.pretrained else None
    stages = [*([before] if before else []), *stages_of(summary)]
    columns = abilities([stage.figures for stage in stages])
    rows = []
    for row, stage in enumerate(stages):
        own = [] if stage is before else [name.removeprefix("id/") for name in stage.figures if name.startswith("id/")]
        title = "before any" if stage is before else ", ".join(own) or "not named"
        cells = [_cell(each.values[row], each.metric, bold=each.title in own) for each in columns]
        rows.append([title + " (this model)" * (stage is stages[-1]), *cells])
    return table(["after", *(f"{each.title} ({metric_title(each.metric)})" for each in columns)], rows)


def _cell(value: float | None, metric: str, *, bold: bool) -> str:
    text = "" if value is None else show(value, metric)
    return f"**{text}**" if bold and text else text
