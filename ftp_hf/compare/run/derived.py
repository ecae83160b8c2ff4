"""Runs that are computed from a trained one, without any training."""

import dataclasses
from typing import Any

from torch import Tensor, nn

from ftp_hf.common.processes import from_first_process
from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.pretrained.statistics import new_tensors

from .folder import has_weights, load_all_weights
from .method_kinds import Derived
from .methods import METHODS
from .plan import Run, method_of
from .trained import TrainedRuns

__all__ = ["DerivedRuns", "source_of"]


class DerivedRuns:
    """
    The runs of methods that are [`Derived`].

    Args:
        trained ([`TrainedRuns`]): which they are computed from.
    """

    def __init__(self, trained: TrainedRuns) -> None:
        self.trained = trained

    def check(self, run: Run) -> None:
        """Compute the weights of nothing, which raises what the method refuses."""
        method_of(run, Derived).weights({}, {}, **run.setting)

    def keep_weights(self, run: Run) -> None:
        """Make sure that the weights exist that a run is computed from."""
        self.trained.keep_weights(source_of(run))

    def has_source(self, run: Run) -> bool:
        """Whether there is what a run is computed from."""
        return from_first_process(has_weights(self.trained.folder(source_of(run))))

    def load(self, run: Run) -> nn.Module:
        """The model with the weights of a run."""
        model = self.trained.pretrained(run)
        start, new = _copied_state(model), new_tensors(model)
        load_all_weights(model, self.trained.folder(source_of(run)))
        model.load_state_dict(method_of(run, Derived).weights(start, _copied_state(model), **run.setting, new=new))
        return model

    def record(self, run: Run) -> ComparedRun:
        """What is known of a run before it is evaluated: where it comes from."""
        base = self.trained.record(source_of(run))
        summary = dataclasses.replace(base.summary, method=run.method, log=[], hardware=None, projection=None)
        return ComparedRun(run.method, dict(run.setting), run.seed, summary, trainable_parameters=0)

    def sensitivity_rows(self, run: Run) -> list[dict[str, Any]]:  # noqa: ARG002
        """None: there are many runs between two that are measured."""
        return []


def source_of(run: Run) -> Run:
    """The trained run that a run is computed from."""
    if run.base is None:
        raise ValueError(f"{run.describe()} is computed from a run of {METHODS[run.method].base!r}: name it as base")
    return run.base


def _copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
