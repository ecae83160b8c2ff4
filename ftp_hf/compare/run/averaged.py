"""Runs whose weights are the mean of those after the last epochs of a trained one."""

from pathlib import Path

from torch import nn

from ftp_hf.baselines.average import average_checkpoints
from ftp_hf.common.processes import from_first_process

from .derived import DerivedRuns, source_of
from .epochs import kept_epochs
from .folder import telling_damage
from .method_kinds import Averaged
from .methods import METHODS
from .plan import Run, method_of, settings_of

__all__ = ["AveragedRuns"]


class AveragedRuns(DerivedRuns):
    """The runs of methods that are [`Averaged`]."""

    def check(self, run: Run) -> None:
        """Refuse to average more epochs than there are."""
        method, config = method_of(run, Averaged), self.trained.config
        last = method.last(run.setting)
        bases = [Run(str(method.base), setting, run.seed) for setting in settings_of(config, str(method.base))]
        shortest = min(bases, key=lambda base: base.setting.get("num_train_epochs", 0))
        epochs = self.trained.count_epochs(shortest)
        if last > epochs:
            where = " under training" if "num_train_epochs" not in shortest.setting else ", of which this is the least"
            raise ValueError(
                f"last = {last} needs the weights after {last} epochs, but {METHODS[shortest.method].title} is trained for "
                f"{epochs}: raise num_train_epochs{where}, or lower last"
            )

    def keep_weights(self, run: Run) -> None:
        """Make sure that the weights of the epochs exist: train the base again if it was trained before they were needed."""
        self.trained.train_again_unless(lambda: self._has_epochs(run), source_of(run))

    def has_source(self, run: Run) -> bool:
        """Whether there is what a run is computed from."""
        return from_first_process(self._has_epochs(run))

    def load(self, run: Run) -> nn.Module:
        """The model with the weights of a run."""
        model = self.trained.pretrained(run)
        with telling_damage(self.trained.folder(source_of(run)), "delete it, and the run is trained again"):
            average_checkpoints(model, self._epochs(run)[-method_of(run, Averaged).last(run.setting) :])
        return model

    def _has_epochs(self, run: Run) -> bool:
        return len(self._epochs(run)) >= method_of(run, Averaged).last(run.setting)

    def _epochs(self, run: Run) -> list[Path]:
        return kept_epochs(self.trained.folder(source_of(run)))
