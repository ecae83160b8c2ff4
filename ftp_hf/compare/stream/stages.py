"""The runs of stages: each starts from the model that the stage before left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ftp_hf.compare.run.method_kinds import Projected
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.trained import TrainedRuns
from ftp_hf.pretrained.loading import mark_loaded
from ftp_hf.pretrained.origin import new_parameters

from .config import StageConfig
from .data import StageData
from .methods import STREAM_METHODS
from .plan import stages_before

__all__ = ["StageRuns"]


class StageRuns(TrainedRuns):
    """
    As [`TrainedRuns`], of one stage at its place in a stream.

    Args:
        config ([`StageConfig`]): of the stage.
        runs (`Path`): the folder of all runs.
        data ([`StageData`]): what they are trained and chosen on.
    """

    config: StageConfig
    data: StageData

    def __init__(self, config: StageConfig, runs: Path, data: StageData) -> None:
        super().__init__(config, runs, data)

    def keep_weights(self, run: Run) -> None:
        """Nothing: it is of another stage, and the course has made sure of its weights."""

    def start(self, run: Run, calibrate: Callable[[nn.Module], None]) -> tuple[nn.Module, set[str]]:
        """
        As of [`TrainedRuns`]. All that an earlier stage has trained is known, unless anchors are those of the first model; but a
        projection would hold the rows of classes that are new now, and leaves their head alone.
        """
        if METHODS[run.method].adapter:
            return self._start_adapted(run, calibrate)
        model, new = super().start(run, calibrate)
        is_new = isinstance(METHODS[run.method], Projected) and self.data.brings_classes
        if run.base is None or self.config.anchors is not None or is_new:
            return model, new
        mark_loaded(model.parameters())
        return model, set()

    def tracked_name(self, run: Run) -> str:
        """As of [`TrainedRuns`], with the stages up to this one, and what tells apart streams whose stages train the same."""
        stages = "+".join([*stages_before(run), self.config.stage, *(other.name for other in self.config.joined)])
        own = {"replayed": self.config.replayed, "anchored": self.config.anchors, "merged": self.config.merged}
        return "/".join([stages, *(name for name, value in own.items() if value), run.tracked_name])

    def own_arguments(self, run: Run) -> dict[str, Any]:  # noqa: ARG002
        """The anchors, where they are not those of the stage before."""
        return {} if self.config.anchors is None else {"ftp_anchors": self.config.anchors}

    def own_options(self, run: Run) -> dict[str, Any]:
        """The data of the stage before, where the method takes them."""
        named = next((each.earlier for each in STREAM_METHODS.values() if each.trains == run.method), None)
        return {} if named is None or self.data.earlier is None else {named: self.data.earlier}

    def save_extras(self, run: Run, model: Any) -> None:
        """As of [`TrainedRuns`]; an adapter that is merged is saved as the whole model, and no longer as an adapter."""
        if not self.config.merged:
            super().save_extras(run, model)
            return
        model.merge_and_unload().save_pretrained(self.folder(run))
        for file in self.folder(run).glob("adapter_*"):
            file.unlink()

    def has_adapter(self, run: Run) -> bool:
        """As of [`TrainedRuns`]; not where it was merged."""
        return super().has_adapter(run) and not self.config.merged

    def _start_adapted(self, run: Run, calibrate: Callable[[nn.Module], None]) -> tuple[nn.Module, set[str]]:
        """With the adapter of the stage before, or a new one on what that was merged into."""
        if run.base is None or self.config.merged:
            return super().start(run, calibrate)
        from peft import PeftModel  # noqa: PLC0415 - only these methods need it

        model = self.pretrained(run)
        new = new_parameters(model)
        return PeftModel.from_pretrained(model, str(self.folder(run.base)), is_trainable=True), new
