"""The names under which transformers saves tensors, and those of today's modules."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.utils import CONFIG_NAME

__all__ = ["renamed_keys"]


def renamed_keys(folder: Path, keys: Iterable[str], model: nn.Module | None = None) -> dict[str, str]:
    """
    What `from_pretrained` calls the tensors of a checkpoint. `save_pretrained` writes the names of the model's first
    release, which are not always those of today's modules: `vit.encoder.layer.0.…` for `vit.layers.0.…`,
    `LayerNorm.gamma` for `LayerNorm.weight`.

    Args:
        folder (`Path`): the folder whose `config.json` names the class of the model that was saved.
        keys (iterable of `str`): the names in the checkpoint.
        model (`nn.Module`, *optional*): the model that the tensors are for; its own renamings count too.

    Returns:
        `dict[str, str]`: from the model's name to the checkpoint's, for the tensors that are only renamed. Those that
        are merged or split on loading are left out; so is everything if no model of transformers is known.
    """
    keys = list(keys)
    models = [_saved_model(folder), model]
    return {name: key for model in models if isinstance(model, PreTrainedModel) for name, key in _renamed(model, keys)}


def _saved_model(folder: Path) -> PreTrainedModel | None:
    config_file = folder / CONFIG_NAME
    architectures = json.loads(config_file.read_text()).get("architectures") if config_file.is_file() else None
    model_class = getattr(transformers, architectures[0], None) if architectures else None
    if model_class is None:
        return None
    with torch.device("meta"):
        model: PreTrainedModel = model_class(model_class.config_class.from_pretrained(folder))
    return model


def _renamed(model: PreTrainedModel, keys: list[str]) -> Iterator[tuple[str, str]]:
    # Renaming has no public function (transformers 5.4 to 5.23; PEFT uses these too).
    conversions = get_model_conversion_mapping(model)
    renamings = [conversion for conversion in conversions if isinstance(conversion, WeightRenaming)]
    converters = [conversion for conversion in conversions if isinstance(conversion, WeightConverter)]
    names = model.state_dict()
    for key in keys:
        name, merged = rename_source_key(key, renamings, converters, model.base_model_prefix, names)
        if merged is None:
            yield name, key
