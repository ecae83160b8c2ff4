"""How many tokens a model has places for: those after the last have no position."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.utils.peft_utils import find_adapter_config_file

__all__ = ["config_of", "places_in", "places_of", "within_places"]

Options = TypeVar("Options")


def within_places(options: Options, key: str, model: str, places: int | None) -> Options:
    """
    Options with no more tokens (`key`) than the model has places for, as [`places_of`] counts them. Only their default is
    lowered to it.

    Raises:
        ValueError: more tokens are asked for.
    """
    asked = getattr(options, key)
    if places is None or asked <= places:
        return options
    if asked != next(option.default for option in fields(options) if option.name == key):  # type: ignore[arg-type]
        raise ValueError(f"{model} has places for {places} tokens, fewer than {key}, {asked}: lower {key}")
    return replace(options, **{key: places})  # type: ignore[type-var]


def places_of(model: str) -> int | None:
    """As [`places_in`], of a model or an adapter that is not loaded; `None` where it is no model of transformers."""
    config = config_of(model)
    if config is None or _positions(config) is None:
        return None
    try:
        with torch.device("meta"):
            return places_in(AutoModel.from_config(config))  # type: ignore[no-untyped-call]
    except (OSError, ValueError):
        return None


def config_of(model: str) -> PreTrainedConfig | None:
    """
    The config of a model that is not loaded; of an adapter, that of its base model. `None` where it is no model of
    transformers.
    """
    try:
        adapter = find_adapter_config_file(model)
        base = json.loads(Path(adapter).read_text(encoding="utf-8")).get("base_model_name_or_path") if adapter else None
        config: PreTrainedConfig = AutoConfig.from_pretrained(base or model)
    except (OSError, ValueError):
        return None
    return config


def places_in(model: nn.Module) -> int | None:
    """How many tokens a model has places for; `None` if it computes positions, as many as there are."""
    places = _positions(model.config)
    if places is None:
        return None
    positions = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    paddings = [index for module in positions if (index := getattr(module, "padding_idx", None)) is not None]
    # RoBERTa and similar models count from after the place of the padding.
    return places - 1 - max(paddings, default=-1)


def _positions(config: Any) -> int | None:
    places: int | None = getattr(config, "max_position_embeddings", None)
    is_computed = getattr(config, "rope_parameters", None) or not getattr(config, "position_biased_input", True)
    return None if places is None or places < 0 or is_computed else places
