"""A head for each stage: the classes of a stage compete with each other alone."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from ftp_hf.tasks import Task

__all__ = ["HeadPerStageMixin", "competitors", "head_per_stage"]


class HeadPerStageMixin(Task[Any]):
    """
    For a task of classes: one head for each stage, as rows of one layer. Whoever trains or asks knows the stage of a row, so
    that only the classes of that stage compete; the stage is that of the row's label.

    Attributes:
        competing (`ndarray`): (classes, classes), in row c the classes that compete with c.
    """

    competing: np.ndarray[Any, np.dtype[np.bool_]]

    def compute_metrics(self, prediction: Any) -> Any:
        """As of the task, of logits in which the classes of other stages are out of the question."""
        return super().compute_metrics(self._among_competitors(prediction))

    def by_class(self, prediction: Any) -> Any:
        """As of the task, of the same logits."""
        return super().by_class(self._among_competitors(prediction))

    def _among_competitors(self, prediction: Any) -> EvalPrediction:
        logits = np.where(self.competing[prediction.label_ids], prediction.predictions, -np.inf)
        return EvalPrediction(logits, prediction.label_ids)

    def trainer_options(self, model: nn.Module) -> dict[str, Any]:
        """As of the task, with a loss among the classes of the row's stage."""
        return {**super().trainer_options(model), "compute_loss_func": self._loss}

    def _loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        competing = torch.as_tensor(self.competing, device=labels.device)[labels]
        logits = outputs["logits"].float().masked_fill(~competing, float("-inf"))
        total = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def head_per_stage(kind: type[Task[Any]]) -> type[Task[Any]]:
    """A task with [`HeadPerStageMixin`]; each of its rows must have a class."""
    return type(f"HeadPerStage{kind.__name__}", (HeadPerStageMixin, kind), {})


def competitors(classes: Iterable[set[int]], count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """
    Which of `count` classes compete with which, from the classes of each stage.

    Raises:
        ValueError: stages share a class: it would not tell the stage of a row.
    """
    competing = np.eye(count, dtype=bool)
    seen: set[int] = set()
    for stage in classes:
        if seen & stage:
            raise ValueError(
                f"heads: per-stage needs stages of different classes, but {len(seen & stage)} are of several: take heads: one"
            )
        seen |= stage
        members = np.array(sorted(stage))
        competing[np.ix_(members, members)] = True
    return competing
