"""
Whisper from a folder of CTranslate2 (`model.bin`, `config.json`, `tokenizer.json`) to a folder of transformers.

Every weight stays what it is in the file. They are written in the file's 16 bits, and the config says float32: so
`from_pretrained` loads float32, as training wants it, and anchors, which are kept as they were saved, take 2 bytes.
"""

import json
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from .ctranslate2_file import read_variables

__all__ = ["convert_whisper", "whisper_config", "whisper_state_dict"]

_ENGLISH_ONLY = 51864
"""Tokens; the models of many languages have more."""
_END = "<|endoftext|>"

Variables = dict[str, NDArray[Any]]

_STEMS = {
    "encoder/conv1": "model.encoder.conv1",
    "encoder/conv2": "model.encoder.conv2",
    "encoder/position_encodings": "model.encoder.embed_positions",
    "decoder/embeddings": "model.decoder.embed_tokens",
    "decoder/position_encodings": "model.decoder.embed_positions",
}
_NORMS = {"self_attention": "self_attn_layer_norm", "attention": "encoder_attn_layer_norm", "ffn": "final_layer_norm"}
# What the rows of each linear layer are, one block under the other.
_LINEARS = {
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}
_ENDINGS = {"weight": "weight", "bias": "bias", "encodings": "weight", "gamma": "weight", "beta": "bias"}


def convert_whisper(source: Path, target: Path) -> None:
    """
    Write model, processor and generation config.

    Args:
        source (`Path`): with `model.bin`, `config.json` and `tokenizer.json`.
        target (`Path`): is made if it is not there.
    """
    variables = read_variables(source / "model.bin")
    tokenizer = WhisperTokenizer.from_pretrained(source, pad_token=_END)
    config = whisper_config(variables, tokenizer)
    weights = whisper_state_dict(variables)
    model = WhisperForConditionalGeneration(config)
    model.load_state_dict({**weights, "proj_out.weight": weights["model.decoder.embed_tokens.weight"]})
    model.generation_config = _generation_config(config, tokenizer, json.loads((source / "config.json").read_text()))
    model.save_pretrained(target, state_dict=weights)
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    WhisperProcessor(extractor, tokenizer).save_pretrained(target)


def whisper_state_dict(variables: Variables) -> dict[str, torch.Tensor]:
    """
    The weights under transformers' names, without the output layer, which is tied to the embeddings.

    Args:
        variables (`dict[str, np.ndarray]`): of a `WhisperSpec`.

    Returns:
        `dict[str, torch.Tensor]`: in the types of the file.

    Raises:
        ValueError: the keys of an attention have a bias, for which transformers has no place.
    """
    weights = {}
    for name, value in variables.items():
        if value.ndim == 0 or name.startswith("decoder/projection/") or name == "decoder/alignment_heads":
            continue
        for target, part in _renamed(name, torch.from_numpy(value.copy())):
            if not target.endswith("k_proj.bias"):
                weights[target] = part
            elif part.any():
                raise ValueError(f"{name} has a bias for its keys, which Whisper has not")
    return weights


def _renamed(name: str, value: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    stem, _, kind = name.rpartition("/")
    ending = _ENDINGS[kind]
    if stem in _STEMS:
        return [(f"{_STEMS[stem]}.{ending}", value)]
    side, *layer, last = stem.split("/")
    if not layer:
        return [(f"model.{side}.{last}.{ending}", value)]
    prefix = f"model.{side}.{layer[0].replace('layer_', 'layers.')}"
    block = layer[1]
    if last == "layer_norm":
        return [(f"{prefix}.{_NORMS[block]}.{ending}", value)]
    parts = _LINEARS[f"{block}/{last}"]
    return [(f"{prefix}.{part}.{ending}", rows) for part, rows in zip(parts, value.chunk(len(parts)), strict=True)]


def whisper_config(variables: Variables, tokenizer: WhisperTokenizer) -> WhisperConfig:
    """
    The architecture, read off the shapes.

    Args:
        variables (`dict[str, np.ndarray]`): of a `WhisperSpec`.
        tokenizer (`WhisperTokenizer`): for the special tokens.
    """
    vocab_size, width = variables["decoder/embeddings/weight"].shape
    sides = ("encoder", "decoder")
    layers = {side: sum(f"{side}/layer_{n}/ffn/linear_0/bias" in variables for n in range(100)) for side in sides}
    end = tokenizer.convert_tokens_to_ids(_END)
    return WhisperConfig(
        vocab_size=vocab_size,
        d_model=width,
        num_mel_bins=variables["encoder/conv1/weight"].shape[1],
        max_source_positions=len(variables["encoder/position_encodings/encodings"]),
        max_target_positions=len(variables["decoder/position_encodings/encodings"]),
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        **{f"{side}_layers": layers[side] for side in sides},
        **{f"{side}_attention_heads": int(variables[f"{side}/num_heads"]) for side in sides},
        **{f"{side}_ffn_dim": len(variables[f"{side}/layer_0/ffn/linear_0/bias"]) for side in sides},
    )


def _generation_config(config: WhisperConfig, tokenizer: WhisperTokenizer, options: dict[str, Any]) -> GenerationConfig:
    multilingual = config.vocab_size > _ENGLISH_ONLY
    languages = {tokenizer.convert_ids_to_tokens(language): language for language in options["lang_ids"]}
    tasks = {task: tokenizer.convert_tokens_to_ids(f"<|{task}|>") for task in ("transcribe", "translate")}
    return GenerationConfig(
        alignment_heads=options["alignment_heads"],
        begin_suppress_tokens=options["suppress_ids_begin"],
        bos_token_id=config.bos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        eos_token_id=config.eos_token_id,
        is_multilingual=multilingual,
        max_initial_timestamp_index=50,
        max_length=config.max_target_positions,
        no_timestamps_token_id=tokenizer.convert_tokens_to_ids("<|notimestamps|>"),
        pad_token_id=config.pad_token_id,
        prev_sot_token_id=tokenizer.convert_tokens_to_ids("<|startofprev|>"),
        return_timestamps=False,
        suppress_tokens=options["suppress_ids"],
        **({"lang_to_id": languages, "task_to_id": tasks} if multilingual else {}),
    )
