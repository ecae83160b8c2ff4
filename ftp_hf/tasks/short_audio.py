"""Whisper on audio of a few seconds, at a few seconds' cost."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.whisper.modeling_whisper import (
    WhisperDecoder,
    WhisperEncoder,
    WhisperPreTrainedModel,
    sinusoids,
)

__all__ = ["POSITIONS_PER_SECOND", "set_audio_seconds", "whisper_encoder"]

_LONGEST = "longest_table"

POSITIONS_PER_SECOND = 50
"""Of Whisper's encoder: a position for two frames of the spectrogram, of which there are 100 a second."""


def whisper_encoder(model: nn.Module) -> WhisperEncoder | None:
    """Whisper's encoder, if there is one in a model."""
    return next((module for module in model.modules() if isinstance(module, WhisperEncoder)), None)


def set_audio_seconds(model: PreTrainedModel, seconds: float) -> None:
    """
    Let Whisper hear `seconds` of audio at a time instead of 30, or 30 again.

    transformers pads whatever a Whisper model hears to 30 seconds, and refuses features of another length. But of the
    weights only the encoder's table of positions has that length, and it is sinusoidal: with its first rows the model
    takes shorter windows, 2 seconds at a fifteenth of the cost. The features must be as long; load the processor with
    `chunk_length`:

    ```python
    processor = WhisperProcessor.from_pretrained(name, chunk_length=2)
    set_audio_seconds(model, 2)
    ```

    The table is frozen, as Whisper's constructor has it, and `from_pretrained` of transformers 5 forgets.

    What is equal: all other weights; the model after going back, to the last bit (if it was saved and loaded between,
    the rows that are missing are computed; those of the published files differ by 0.0005); the model to one that was
    made with this `max_source_positions`; and what the layers are given of a clip in either window, but for the last
    position. What is not: the outputs for the clip. In the longer window its positions attend to those of the silence
    after it, as Whisper was trained to. Compare models in windows of one length. Speech beyond the window is not heard.

    Args:
        model (`PreTrainedModel`): with a Whisper encoder, with or without a decoder or a head, not in shards. It is
            changed, and so is its config: a model that is saved in between loads with the short window.
        seconds (`float`): a multiple of 0.02 above 0.

    Raises:
        TypeError: the model has no Whisper encoder.
        ValueError: `seconds` is no such multiple.
    """
    encoder = whisper_encoder(model)
    if encoder is None:
        raise TypeError(f"{type(model).__name__} has no Whisper encoder, whose windows are of a fixed length")
    positions = round(seconds * POSITIONS_PER_SECOND)
    if positions < 1 or abs(positions - seconds * POSITIONS_PER_SECOND) > 1e-6:
        raise ValueError(f"seconds={seconds} must be a multiple of {1 / POSITIONS_PER_SECOND} above 0")
    table = encoder.embed_positions
    if len(table.weight) > len(getattr(table, _LONGEST, ())):
        table.register_buffer(_LONGEST, table.weight.data, persistent=False)
    table.weight.requires_grad_(False)
    table.weight.data = _rows(getattr(table, _LONGEST), positions)  # the parameter stays the one that optimizers know
    table.num_embeddings = positions
    for module in model.modules():
        if isinstance(module, WhisperPreTrainedModel):
            module.config.max_source_positions = positions
        if isinstance(module, WhisperEncoder | WhisperDecoder):
            module.max_source_positions = positions


def _rows(table: torch.Tensor, count: int) -> torch.Tensor:
    """The first rows of a table; beyond its end they are computed by its formula."""
    if count <= len(table):
        return table[:count].clone()
    return torch.cat([table, sinusoids(count, table.shape[1])[len(table) :].to(table)])
