"""Image classification: a pre-trained vision model with a head for the labels, and pixels for it."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, ImageOps
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    default_data_collator,
)

from ftp_hf.common.documented import with_help
from ftp_hf.corruptions import IMAGE_CORRUPTIONS, to_rgb

from .classifier import ClassificationTask, load_classifier
from .files import as_files, read_images
from .row_checks import check_column

__all__ = ["ImageOptions", "ImageTask"]

_SIZING = ("do_resize", "do_center_crop")
_OWN_STEPS = ("include_top",)
"""Steps that are not called `do_…`: by this one, EfficientNet divides once more."""


@with_help
@dataclass
class ImageOptions:
    """
    Args:
        image_column (`str`, *optional*, defaults to `"image"`): the column of images, files as bytes or by path.
        image_size (`int`, *optional*): side of the square that images are resized to, in pixels. By default the image
            processor decides.
        random_flip (`bool`, *optional*, defaults to `False`): mirror half of the training images.
        classifier_dropout (`float`, *optional*): dropout before the classifier, for configs that have
            `classifier_dropout_prob`.
    """

    image_column: str = "image"
    image_size: int | None = None
    random_flip: bool = False
    classifier_dropout: float | None = None


class ImageTask(ClassificationTask[ImageOptions]):
    """
    Classes of images.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`ImageOptions`], *optional*): how images are read.
        labels (sequence of `str`): the names of the classes, by index.
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices.
    """

    name = "image-classification"
    options_class = ImageOptions
    file_columns = ("image_column",)
    input_columns = ("image_column",)
    corruptions = IMAGE_CORRUPTIONS
    collator = staticmethod(default_data_collator)

    def __init__(self, model: str, options: ImageOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        # In the processor itself, which is saved with the model: with both loaded, inputs are as in training.
        side = self.options.image_size
        size = {} if side is None else {"size": {"height": side, "width": side}, "do_center_crop": False}
        self.processor = AutoImageProcessor.from_pretrained(model, **size)  # type: ignore[no-untyped-call]

    @property
    def augments(self) -> bool:
        """As `random_flip` says."""
        return self.options.random_flip

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained model with a head for the labels; `options` go to `from_pretrained`."""
        dropout = self.options.classifier_dropout
        if dropout is not None:
            options["classifier_dropout_prob"] = dropout
        return load_classifier(AutoModelForImageClassification, self.model, self.head_options(), **options)

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set lacks the column of images; a row has none, or one that cannot be read; the label column
                holds lists.
        """
        column = self.options.image_column
        check_column(name, dataset, column, "image_column")
        for _ in read_images(name, dataset, column, to_rgb):
            pass
        super().check(name, dataset)

    def prepare(
        self,
        dataset: Dataset,
        *,
        augment: bool = False,
        corrupt: Callable[[Image.Image], Image.Image] | None = None,
    ) -> Dataset:
        """
        As of [`Task`]: pixels and labels, made when a row is read; augmented as `random_flip` says, and corrupted at the size
        that the model sees.
        """
        sizing, others = (_with_steps(self.processor, sizing=kept) for kept in (True, False))

        def pixels(image: Image.Image) -> Any:
            image, process = to_rgb(image), self.processor
            # At the size that the model sees: a blur of a photograph is gone once it is resized to 32 pixels.
            if corrupt is not None:
                seen = sizing(image, return_tensors="pt")["pixel_values"][0]
                image, process = corrupt(Image.fromarray(np.moveaxis(seen.numpy(), 0, -1))), others
            if augment and self.options.random_flip and random.random() < 0.5:  # noqa: S311
                image = ImageOps.mirror(image)
            return process(image, return_tensors="pt")["pixel_values"][0]

        def transform(batch: dict[str, Any]) -> dict[str, Any]:
            labels = self.targets(batch[self.label_column])
            return {"pixel_values": [pixels(image) for image in batch[self.options.image_column]], "label": labels}

        return as_files(dataset, self.options.image_column, ImageFeature()).with_transform(transform)


def _with_steps(processor: Any, *, sizing: bool) -> Any:
    """An image processor that takes only the steps to the size that the model sees, or only the others."""
    partial = copy.copy(processor)
    for step in [name for name in vars(processor) if name.startswith("do_") or name in _OWN_STEPS]:
        if (step in _SIZING) != sizing:
            setattr(partial, step, False)
    return partial
