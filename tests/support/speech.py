"""A recogniser of a few thousand weights, and sounds for it: tones, a word for each pitch."""

from io import BytesIO
from string import ascii_lowercase

import numpy as np
import soundfile
import torch
from datasets import Dataset
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from ftp_hf.tasks.whisper_windows import hearing

__all__ = ["WORDS", "answered", "save_whisper", "sound", "sounds"]

WORDS = {"low": 300, "high": 1500}
"""And the pitch of each, in hertz."""

_SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"  # as tokenizers of bytes call it
_SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>"]


def save_whisper(folder, *, seed=0):
    """A pre-trained recogniser that hears 3 seconds at a time and writes letter by letter, the small ones and spaces."""
    torch.manual_seed(seed)
    token = {name: index for index, name in enumerate([*ascii_lowercase, _SPACE, *_SPECIAL])}
    tokenizer = WhisperTokenizer(token, [], extra_special_tokens=_SPECIAL)
    tokenizer.pad_token = tokenizer.eos_token
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=3)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    end, start = token["<|endoftext|>"], token["<|startoftranscript|>"]
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    lengths = {"max_source_positions": 150, "max_target_positions": 128, "num_mel_bins": 8}
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    model = WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=len(token), classifier_proj_size=16, **sizes, **heads, **lengths, **ends)
    )
    model.generation_config.update(
        **ends, max_length=128, is_multilingual=False, no_timestamps_token_id=token["<|notimestamps|>"],
        begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def sound(pitch, seconds=0.5, *, rate=8000, noise=0.0, seed=0, kind="WAV"):
    """The file of a tone, as a column of sounds has it."""
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * pitch * time) + noise * np.random.default_rng(seed).standard_normal(len(time))
    file = BytesIO()
    soundfile.write(file, wave, rate, format=kind)
    return {"bytes": file.getvalue(), "path": None}


def sounds(rows=8, seconds=0.5, *, noise=0.0, **columns):
    """Tones of both pitches, in turn, with what they say and their label."""
    words = list(WORDS)
    files = [sound(WORDS[words[row % 2]], seconds, noise=noise, seed=row) for row in range(rows)]
    said = {"text": [words[row % 2] for row in range(rows)], "label": [row % 2 for row in range(rows)]}
    return Dataset.from_dict({"audio": files, **said, **columns})


def answered(task, dataset):
    """Sounds with the very words that the model of a task answers before it is trained."""
    model, batch = task.load_model(), task.batches(dataset, len(dataset))[0]
    seconds = batch["input_features"].shape[-1] // 100
    with hearing(model, batch):
        answers = model.generate(batch["input_features"], max_length=8 + -(-15 * seconds // 2))
    texts = task.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return dataset.remove_columns("text").add_column("text", texts)
