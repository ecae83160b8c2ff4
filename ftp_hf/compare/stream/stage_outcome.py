"""What a stage left: a model, and its figures on the test sets of all stages."""

from typing import NamedTuple

from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.compare.run.plan import Run

from .plan import stage_of

__all__ = ["StageOutcome"]


class StageOutcome(NamedTuple):
    """A model after a stage, or before any."""

    run: Run
    measured: ComparedRun

    @property
    def stage(self) -> str:
        """The one whose test set its evaluation calls its own."""
        return stage_of(self.run).stage

    def row(self, order: list[str], metric: str) -> list[float]:
        """Its row of the matrix: the figures of a metric on the stages in this order."""
        found = self.measured.values("ood", metric)
        found[self.stage] = self.measured.values("id", metric)["test"]
        return [found[stage] for stage in order]
