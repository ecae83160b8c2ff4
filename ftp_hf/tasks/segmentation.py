"""Semantic segmentation: a pre-trained vision model with a head that gives each pixel a class."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    EvalPrediction,
    PreTrainedModel,
    default_data_collator,
)

from ftp_hf.common.documented import with_help
from ftp_hf.common.figures import metric_named
from ftp_hf.corruptions import DENSE_IMAGE_CORRUPTIONS, to_rgb

from .classifier import classifier_options, load_classifier
from .files import as_files, read_images
from .pixels import IGNORED, SegmentationTrainer, mask_indices, mean_iou, pixel_accuracy
from .row_checks import RowError, check_column
from .task import Task, loss_of_labels

__all__ = ["SegmentationOptions", "SegmentationTask"]


@with_help
@dataclass
class SegmentationOptions:
    """
    Args:
        classes (`list[str]`): the names of the classes, by their index in the masks.
        ignore_label (`int`, *optional*, defaults to 255): what masks hold where no class is right or wrong.
        image_column (`str`, *optional*, defaults to `"image"`): the column of images, files as bytes or by path.
        mask_column (`str`, *optional*, defaults to `"mask"`): the column of masks, images of class indices, files as bytes or by path.
        image_width, image_height (`int`, *optional*): what images and masks are resized to, in pixels; a square where one of
            them is given. By default the image processor's.
        random_flip (`bool`, *optional*, defaults to `False`): mirror half of the training images, with their masks.
        output_stride (`int`, *optional*): pixels of the image for one of the feature map, for configs that have it: 8 or 16
            show small things that 32, of a classifier, passes over.
        classifier_dropout (`float`, *optional*): dropout before the classifier, for configs that have
            `classifier_dropout_prob`.
    """

    classes: list[str] = field(default_factory=list)
    ignore_label: int = 255
    image_column: str = "image"
    mask_column: str = "mask"
    image_width: int | None = None
    image_height: int | None = None
    random_flip: bool = False
    output_stride: int | None = None
    classifier_dropout: float | None = None


class SegmentationTask(Task[SegmentationOptions]):
    """
    A class for each pixel.

    Images and masks come to the size that the model sees, masks by their nearest pixel; the metrics are of that size, with
    the logits enlarged to it. `mean_iou` is the mean of `intersection / union` over the classes that occur in a data set, in
    its masks or in what the model answers; pixels are added up over the data set first. `pixel_accuracy` is the share of
    the pixels that are right. Pixels that are ignored count nowhere.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`SegmentationOptions`], *optional*): how images and masks are read.
    """

    name = "image-segmentation"
    metrics = (metric_named("mean_iou"), metric_named("pixel_accuracy"))
    options_class = SegmentationOptions
    file_columns = ("image_column", "mask_column")
    input_columns = ("image_column",)
    corruptions = DENSE_IMAGE_CORRUPTIONS
    trainer_class = SegmentationTrainer
    collator = staticmethod(default_data_collator)

    def __init__(self, model: str, options: SegmentationOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.labels = self.labels or list(self.options.classes)
        sides = [side for side in (self.options.image_width, self.options.image_height) if side is not None]
        if not sides:
            size = AutoImageProcessor.from_pretrained(model).size  # type: ignore[no-untyped-call]
            sides = [size[side if side in size else "shortest_edge"] for side in ("width", "height")]
        self.size = sides[0], sides[-1]
        self.processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            model, size={"width": self.size[0], "height": self.size[1]}, do_center_crop=False
        )

    @property
    def augments(self) -> bool:
        """As `random_flip` says."""
        return self.options.random_flip

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained model with a head for the classes; `options` go to `from_pretrained`."""
        dropout, stride = self.options.classifier_dropout, self.options.output_stride
        own = {"classifier_dropout_prob": dropout, "output_stride": stride}
        options |= {name: value for name, value in own.items() if value is not None}
        model = load_classifier(
            AutoModelForSemanticSegmentation, self.model, classifier_options(self.labels), **options
        )
        if hasattr(model.config, "semantic_loss_ignore_index"):
            model.config.semantic_loss_ignore_index = IGNORED
        return model

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set lacks a column; a row has no image or mask that can be read; masks are no images of class
                indices, have another shape than their images, hold an index that is neither a class nor ignored, nothing but what is
                ignored, or of two classes one beside it.
        """
        self._checked_classes(name, dataset)

    def check_training(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: a class is in no mask, or as of [`check`].
        """
        found = self._checked_classes(name, dataset)
        if missing := [f"{index} ({label})" for index, label in enumerate(self.labels) if index not in found]:
            raise ValueError(
                f"no mask of {name} holds {', '.join(missing)}, which nothing can be learnt of: add rows that do, or leave such classes "
                "out"
            )

    def _checked_classes(self, name: str, dataset: Dataset) -> set[int]:
        """What the masks hold; raises as [`check`]."""
        for option in ("image_column", "mask_column"):
            check_column(name, dataset, getattr(self.options, option), option)
        if not self.labels:
            raise ValueError("classes have no names: list them in classes, by their index in the masks")
        found: set[int] = set()
        pictures = read_images(name, dataset, self.options.image_column, to_rgb)
        masks = read_images(name, dataset, self.options.mask_column, mask_indices)
        for row, (image, mask) in enumerate(zip(pictures, masks, strict=True)):
            _check_shape(row, name, image.size, mask.shape[::-1])
            found |= {int(label) for label in np.unique(mask)}
        if unknown := found - {*range(len(self.labels)), self.options.ignore_label}:
            raise ValueError(
                f"the masks of {name} hold {sorted(unknown)}, which is no index of the {len(self.labels)} classes: name all "
                f"classes, or say with ignore_label (now {self.options.ignore_label}) which pixels are ignored"
            )
        # One of many classes may be alone in a set; of two, the other one is what is ignored.
        if self.options.ignore_label in found and (len(found) == 1 or len(found) == 2 >= len(self.labels)):
            raise ValueError(
                f"the masks of {name} hold {', '.join(map(str, sorted(found)))}, and {self.options.ignore_label} is ignored "
                f"(ignore_label), so that no two classes can be told apart: write the index of its class there, such as "
                f"{len(self.labels) - 1} for {self.labels[-1]}"
            )
        return found

    def prepare(
        self,
        dataset: Dataset,
        *,
        augment: bool = False,
        corrupt: Callable[[Image.Image], Image.Image] | None = None,
    ) -> Dataset:
        """As of [`Task`]: pixels and labels, made when a row is read; augmented as `random_flip` says."""

        def row(image: Image.Image, mask: Image.Image) -> tuple[Tensor, Tensor]:
            image = to_rgb(image)
            if corrupt is not None:
                image = corrupt(image.resize(self.size, Image.Resampling.BICUBIC))
            mask = mask.resize(self.size, Image.Resampling.NEAREST)
            if augment and self.options.random_flip and random.random() < 0.5:  # noqa: S311
                image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
            pixels = self.processor(image, return_tensors="pt")["pixel_values"][0]
            labels = torch.from_numpy(mask_indices(mask))
            return pixels, labels.masked_fill(labels == self.options.ignore_label, IGNORED)

        def transform(batch: dict[str, Any]) -> dict[str, Any]:
            pairs = zip(batch[self.options.image_column], batch[self.options.mask_column], strict=True)
            pixels, labels = zip(*(row(*pair) for pair in pairs), strict=True)
            return {"pixel_values": list(pixels), "labels": list(labels)}

        for column in (self.options.image_column, self.options.mask_column):
            dataset = as_files(dataset, column, ImageFeature())
        return dataset.with_transform(transform)

    def arguments(self) -> dict[str, Any]:
        """As of [`Task`]; the loss is that of [`loss_of_labels`]."""
        return {**super().arguments(), "include_for_metrics": ["loss"]}

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        `"mean_iou"` and `"pixel_accuracy"`, in [0, 1], NaN where no pixel counts; and as [`loss_of_labels`], of pixels.
        Predictions are those of [`SegmentationTrainer`]: the counts of [`pixel_counts`] of each image.
        """
        counts = _added_up(prediction)
        loss = loss_of_labels(prediction, np.asarray(prediction.label_ids).sum(axis=1))
        return {"mean_iou": mean_iou(*counts), "pixel_accuracy": pixel_accuracy(*counts), **loss}

    def by_class(self, prediction: EvalPrediction) -> Mapping[str, Mapping[str, float]]:
        """The IoU of each class that occurs, whose mean is `mean_iou`."""
        (right, predicted), labelled = _added_up(prediction)
        union = predicted + labelled - right
        return {"iou": {self.labels[index]: float(right[index] / union[index]) for index in np.flatnonzero(union)}}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`], at each place of the logits, (rows, height, width, classes)."""
        logits = model(pixel_values=batch["pixel_values"]).logits.movedim(1, -1)
        return logits, torch.ones_like(logits[..., 0], dtype=torch.bool)

    def hidden(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`]; of a feature map at each of its places, (rows, height, width, channels)."""
        states = model(pixel_values=batch["pixel_values"], output_hidden_states=True).hidden_states[-1]
        states = states.movedim(1, -1) if states.dim() == 4 else states
        return states, torch.ones_like(states[..., 0], dtype=torch.bool)


def _check_shape(row: int, name: str, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    """Width and height of both have one ratio, to the rounding of a pixel."""
    if abs(image[0] * mask[1] - image[1] * mask[0]) > max(sum(image), sum(mask)):
        raise RowError(
            row,
            f"{name} has an image of {image[0]} × {image[1]} pixels and a mask of {mask[0]} × {mask[1]}, which would be stretched: "
            "both must show the same",
        )


def _added_up(prediction: EvalPrediction) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The counts of all images together."""
    return np.asarray(prediction.predictions).sum(axis=0), np.asarray(prediction.label_ids).sum(axis=0)
