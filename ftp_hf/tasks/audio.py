"""Classification of sounds: a pre-trained audio encoder with a head for the labels, such as Whisper's encoder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedModel

from .classifier import ClassificationTask, classifier_options, load_classifier
from .sounds import Others, SoundOptions, Sounds, SoundTask
from .whisper_windows import WindowsTrainer, freeze_positions

__all__ = ["AudioTask"]


class AudioTask(SoundTask[SoundOptions], ClassificationTask[SoundOptions]):
    """
    Classes of sounds.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`SoundOptions`], *optional*): how sounds are read.
        labels (sequence of `str`): the names of the classes, by index.
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices.

    Raises:
        ValueError: `max_seconds` is given for a model without windows.
    """

    name = "audio-classification"
    options_class = SoundOptions
    trainer_class = WindowsTrainer

    def __init__(self, model: str, options: SoundOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.processor = AutoFeatureExtractor.from_pretrained(model)  # type: ignore[no-untyped-call]
        self.sounds = Sounds(self.processor, self.options)

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained encoder with a head for the labels; `options` go to `from_pretrained`."""
        model = load_classifier(AutoModelForAudioClassification, self.model, classifier_options(self.labels), **options)
        freeze_positions(model)
        return model

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set lacks the column; a row is no sound, or longer than the model can hear; the label column
                holds lists.
        """
        self.sounds.check(name, dataset)
        super().check(name, dataset)

    def readable(self, dataset: Dataset) -> tuple[Dataset, Others]:
        """The classes as they are."""
        return dataset, lambda batch: {"label": batch[self.label_column]}

    def collator(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of prepared rows."""
        return {**self.sounds.pad(rows), "labels": torch.tensor([row["label"] for row in rows])}
