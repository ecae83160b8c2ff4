"""Whisper hears each batch in windows as long as the batch's, whatever its own are."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Seq2SeqTrainer, Trainer

from ftp_hf.common.host import Host
from ftp_hf.common.replaced import replaced

from .short_audio import POSITIONS_PER_SECOND, set_audio_seconds, whisper_encoder
from .task import Options, Task

__all__ = ["SpeechTrainer", "WindowsTask", "WindowsTrainer", "WindowsTrainerMixin", "freeze_positions", "hearing"]

_FRAMES_PER_POSITION = 2
_TOKENS, _TOKENS_PER_SECOND = 8, 7.5
"""What an answer may have: the recipes of transformers allow 225 for 30 seconds. A model that repeats itself stops there."""


def freeze_positions(model: nn.Module) -> None:
    """Leave Whisper's table of positions untrained, which its constructor freezes and loading thaws."""
    if (encoder := whisper_encoder(model)) is not None:
        encoder.embed_positions.requires_grad_(False)


@contextmanager
def hearing(model: Any, batch: Mapping[str, Tensor]) -> Iterator[None]:
    """
    Have Whisper take a batch (`input_features`: rows, channels, frames) whose windows are shorter than its own. After the
    block it is as it was before, and so are its checkpoints: a model that was trained on 2 seconds at a time is saved as one
    that hears 30. A model of another architecture is left as it is.
    """
    encoder = whisper_encoder(model)
    if encoder is None or "input_features" not in batch:
        yield
        return
    usual, positions = encoder.config.max_source_positions, batch["input_features"].shape[-1] // _FRAMES_PER_POSITION
    if positions == usual:
        yield
        return
    set_audio_seconds(model, positions / POSITIONS_PER_SECOND)
    try:
        yield
    finally:
        set_audio_seconds(model, usual / POSITIONS_PER_SECOND)


@contextmanager
def _encoding_once(model: nn.Module) -> Iterator[None]:
    """Have Whisper encode the same sounds once, where it writes what it hears and its loss is asked for too."""
    encoder = whisper_encoder(model)
    if encoder is None or isinstance(model, nn.DataParallel):  # whose replicas would share what is known
        yield
        return
    encode, known = encoder.forward, list[Any]()

    def once(input_features: Tensor, *args: Any, **kwargs: Any) -> Any:
        kind = input_features.dtype, torch.is_autocast_enabled(input_features.device.type)
        if not known or known[0] != kind or not torch.equal(known[1], input_features):
            known[:] = kind, input_features, encode(input_features, *args, **kwargs)
        return known[2]

    with replaced(encoder, forward=once):
        yield


class WindowsTask(Task[Options]):
    """A task whose batches may have windows of any length, as [`hearing`] says."""

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`], in the windows of the batch."""
        with hearing(model, batch):
            return super().logits(model, batch)

    def hidden(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`], in the windows of the batch."""
        with hearing(model, batch):
            return super().hidden(model, batch)


class WindowsTrainerMixin(Host):
    """For any `Trainer` class: batches of Whisper may have windows of any length, as [`hearing`] says."""

    def forward_context(self, model: nn.Module, inputs: Mapping[str, Any]) -> AbstractContextManager[None]:
        """The context in which a method runs another model on a batch, such as the pre-trained one beside the trained one."""
        return hearing(model, inputs)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As the Trainer does, in the windows of the batch."""
        with hearing(model, inputs):
            return super().compute_loss(model, inputs, *args, **kwargs)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As the Trainer does, in the windows of the batch."""
        with hearing(model, inputs):
            return super().prediction_step(model, inputs, *args, **kwargs)


class WindowsTrainer(WindowsTrainerMixin, Trainer):
    """`Trainer` with [`WindowsTrainerMixin`]."""


class SpeechTrainer(WindowsTrainerMixin, Seq2SeqTrainer):
    """
    `Seq2SeqTrainer` with [`WindowsTrainerMixin`]. Unless `generation_max_length` says otherwise, what Whisper answers is as
    long as words of the window can be: who is silent for the most part of 30 seconds need not wait for an answer of 30.
    Where a text of the batch has more tokens, as in scripts of which a letter takes several, an answer may be as long.
    """

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """With answers of this length."""
        asked = {**getattr(self, "_gen_kwargs", {}), **kwargs}
        if whisper_encoder(model) is not None and not asked.keys() & {"max_length", "max_new_tokens"}:
            seconds = inputs["input_features"].shape[-1] / _FRAMES_PER_POSITION / POSITIONS_PER_SECOND
            # After the token that the model starts with.
            longest_text = 1 + inputs["labels"].shape[-1] if "labels" in inputs else 0
            asked["max_length"] = max(math.ceil(_TOKENS + _TOKENS_PER_SECOND * seconds), longest_text)
        with _encoding_once(model):
            return super().prediction_step(model, inputs, *args, **asked)
