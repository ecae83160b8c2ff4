"""How well pixels are given classes, from counts of them: the logits of all pixels of a data set would fill the memory."""

import math
from collections.abc import Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer

from ftp_hf.common.replaced import replaced

from .task import logits_alone

__all__ = ["IGNORED", "SegmentationTrainer", "mask_indices", "mean_iou", "pixel_accuracy", "pixel_counts"]

IGNORED = 255
"""The label that the losses of transformers' models pass over."""


class SegmentationTrainer(Trainer):
    """A Trainer that keeps of each image how many of its pixels are of which class, not the logits of all of them."""

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """As of `Trainer`, with the counts of [`pixel_counts`] for logits and labels."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None or labels is None:
            return loss, logits, labels
        return loss, *pixel_counts(logits_alone(logits), labels)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Without a last batch of one image: a batch norm after a global pooling has one value there, and no variance."""
        data, args = self.train_dataset, self.args
        one_is_left = isinstance(data, Sized) and len(data) % args.train_batch_size == 1
        # Here alone: evaluation reads this argument too.
        with replaced(args, dataloader_drop_last=args.dataloader_drop_last or one_is_left):
            return super().get_train_dataloader()


def pixel_counts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """
    How many pixels of each image are of which class, from logits (rows, classes, height, width) of any resolution and class
    indices (rows, height, width), of which 255 is ignored.

    Returns:
        `tuple[Tensor, Tensor]`: those that are right and those that were predicted, (rows, 2, classes); those that are
            labelled, (rows, classes).
    """
    rows, classes = logits.shape[:2]
    enlarged = nn.functional.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    predicted, counted = enlarged.argmax(dim=1), labels != IGNORED
    first = classes * torch.arange(rows, device=labels.device)[:, None, None]

    def count(indices: Tensor, which: Tensor) -> Tensor:
        return torch.bincount((first + indices)[which], minlength=rows * classes).view(rows, classes)

    right = count(labels, counted & (predicted == labels))
    return torch.stack([right, count(predicted, counted)], dim=1), count(labels, counted)


def mean_iou(answers: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
    """
    The mean of `intersection / union` over the classes that occur, in the labels or in the answers; NaN if none does.
    `answers` counts pixels that are right and pixels that were predicted, (2, classes), and `labelled` those that are
    labelled, (classes,).
    """
    right, predicted = answers
    union = predicted + labelled - right
    return float((right[union > 0] / union[union > 0]).mean()) if union.any() else math.nan


def pixel_accuracy(answers: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
    """The share of the labelled pixels that are right, of the same counts; NaN if none is labelled."""
    return float(answers[0].sum() / labelled.sum()) if labelled.any() else math.nan


def mask_indices(mask: Image.Image) -> NDArray[np.int64]:
    """The class indices of a mask, (height, width); raises `ValueError` for one with several channels."""
    indices = np.array(mask, dtype=np.int64)
    if indices.ndim != 2:
        raise ValueError(f"a mask is an image of the mode {mask.mode}: it must hold one class index for each pixel")
    return indices
