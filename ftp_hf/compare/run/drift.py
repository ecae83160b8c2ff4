"""How far a run has moved its model from the pre-trained one, and how strongly the model answers to changes."""

import logging
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from datasets import Dataset
from torch import Tensor, nn

from ftp_hf.compare.evidence.results import Drift, ParameterDrift
from ftp_hf.distance import model_distance
from ftp_hf.function_distance import counted_answers, distance_from, hidden_change, measured_kl
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.sensitivity import ModelSensitivity, model_sensitivity
from ftp_hf.tasks import Task
from ftp_hf.tasks.whisper_windows import hearing

from .caching import KeptAnswers, Room

__all__ = ["DISTANT", "FunctionDistance", "measure_drift", "measure_sensitivity"]

DISTANT = ("id", "ood", "retained")
"""The kinds of data on whose inputs it is measured how differently the models answer."""

_BATCH = 16

logger = logging.getLogger(__name__)


class FunctionDistance:
    """
    How differently a model answers from its pre-trained one: `kl` where both have the same logits, `hidden_change` of the
    last hidden states where a part of the model is new, or the task has none.

    Args:
        task ([`Task`]): of the model.
        pretrained (`nn.Module`): as fine-tuning started from it.
        known ([`KeptAnswers`], *optional*): what it answers, if it was asked before. By default it is asked once by this one.

    Attributes:
        metric (`str`): which of the two it is.
    """

    def __init__(self, task: Task[Any], pretrained: nn.Module, known: KeptAnswers | None = None) -> None:
        self._task, self._pretrained = task, pretrained
        self._known = KeptAnswers(Room()) if known is None else known
        by_states = not task.has_logits or bool(new_parameters(pretrained))
        self.metric = "hidden_change" if by_states else "kl"
        self._answers, self._compare = (task.hidden, hidden_change) if by_states else (task.logits, measured_kl)

    def measure(self, model: nn.Module, dataset: Dataset) -> dict[str, float]:
        """`eval_kl` or `eval_hidden_change` of a fine-tuned model, on all rows of a data set."""
        device = next(model.parameters()).device

        def before(index: int, batch: Mapping[str, Tensor]) -> Tensor:
            make = partial(counted_answers, self._pretrained.to(device), batch, self._answers)
            return self._known.get((dataset, index), make).to(device)

        batches = [
            {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}
            for batch in self._task.batches(dataset, _BATCH)
        ]
        pairs = ((before(index, batch), batch) for index, batch in enumerate(batches))
        return {f"eval_{self.metric}": distance_from(pairs, model, self._answers, self._compare)}


def measure_drift(
    model: nn.Module, pretrained: nn.Module, new: Collection[str], sensitivity: ModelSensitivity | None = None
) -> Drift:
    """
    The distances of [`~ftp_hf.distance`], with the sensitivities that [`measure_sensitivity`] found. Adapters must be merged.
    `new` names the parameters of `pretrained` that were not loaded.
    """
    anchors = {name: parameter for name, parameter in pretrained.named_parameters() if name not in new}
    distance = model_distance(model, anchors)
    layers = {layer.name: layer for layer in sensitivity.layers} if sensitivity else {}
    drift = Drift(distance.row_norm, distance.relative, distance.lipschitz)
    if sensitivity is not None:
        drift.fine_tuned, drift.pretrained = sensitivity.fine_tuned, sensitivity.pretrained
        drift.typical_fine_tuned = sensitivity.typical_fine_tuned
        drift.typical_pretrained = sensitivity.typical_pretrained
    for parameter in distance.parameters:
        moved = ParameterDrift(parameter.name, parameter.row_norm, parameter.relative, parameter.lipschitz)
        layer = layers.get(parameter.name.removesuffix(".weight"))
        if layer is not None and parameter.lipschitz is not None:
            moved.fine_tuned, moved.pretrained = layer.fine_tuned, layer.pretrained
        drift.parameters.append(moved)
    return drift


def measure_sensitivity(
    model: nn.Module, pretrained: nn.Module, batch: Mapping[str, Tensor], before: ModelSensitivity | None = None
) -> ModelSensitivity | None:
    """
    The sensitivities of [`~ftp_hf.sensitivity`], or `None`, with a line in the log, where they cannot be measured. Adapters
    must be merged. `before` is of another model that was fine-tuned from `pretrained`, on the same batch.
    """
    try:
        with hearing(model, batch), hearing(pretrained, batch):
            return model_sensitivity(model, pretrained, [batch], before=before)
    except (TypeError, ValueError) as error:
        logger.warning("No sensitivities are measured: %s", error)
        return None
