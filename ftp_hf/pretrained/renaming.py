"""
The names under which transformers saves tensors, and those of today's modules, into which some are merged or split; and what it
does not save.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
from transformers.utils import CONFIG_NAME

from ftp_hf.common.names import base_name, canonical_name

from .converted import ConvertedTensor
from .parts import outermost_models

__all__ = ["converted_names", "rebuilt_parameters"]


def converted_names(
    folder: Path, keys: Sequence[str], model: nn.Module | None = None
) -> dict[str, str | ConvertedTensor]:
    """
    The names that `from_pretrained` has for the tensors of a checkpoint (`keys`), or what it makes of them. `save_pretrained`
    writes the tensors of the model's first release, which are not always those of today's modules: `vit.encoder.layer.0.…` for
    `vit.layers.0.…`, `LayerNorm.gamma` for `LayerNorm.weight`, a tensor for each expert of a layer. The `config.json` in
    `folder` names the class of the model that was saved; if the `model` that the tensors are for is given, its own conversions
    count too, and those of the models of transformers in it.

    Returns:
        `dict[str, str | ConvertedTensor]`: from the model's name to the checkpoint's, or to how the tensor is made;
        empty if no model of transformers is known.
    """
    names: dict[str, str | ConvertedTensor] = {}
    if (saved := _saved_model(folder)) is not None:
        names |= _converted(saved, keys)
    for prefix, part in () if model is None else outermost_models(model):
        held = part.state_dict() if prefix else ()
        found = _converted(part, keys).items()
        names |= {f"{prefix}{name}": source for name, source in found if not prefix or name in held}
    return names


def rebuilt_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """
    The parameters that models of transformers compute whenever they are made, and never save, such as Marian's sinusoidal
    positions; by name, in each model within this one.
    """
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    rebuilt = {
        parameter
        for part in parts
        if (unsaved := part._keys_to_ignore_on_save)
        for name, parameter in part.named_parameters()
        if base_name(canonical_name(name)) in unsaved
    }
    return {name: parameter for name, parameter in model.named_parameters() if parameter in rebuilt}


def _saved_model(folder: Path) -> PreTrainedModel | None:
    config_file = folder / CONFIG_NAME
    architectures = json.loads(config_file.read_text()).get("architectures") if config_file.is_file() else None
    model_class = getattr(transformers, architectures[0], None) if architectures else None
    if model_class is None:
        return None
    with torch.device("meta"):
        model: PreTrainedModel = model_class(model_class.config_class.from_pretrained(folder))
    return model


def _converted(model: PreTrainedModel, keys: Sequence[str]) -> dict[str, str | ConvertedTensor]:
    # Conversion has no public function for a single tensor (transformers 5.18 to 5.23; PEFT uses these too). This follows
    # `convert_and_load_state_dict_in_model`.
    conversions = get_model_conversion_mapping(model)
    renamings = [conversion for conversion in conversions if isinstance(conversion, WeightRenaming)]
    converters = [conversion for conversion in conversions if isinstance(conversion, WeightConverter)]
    converter_of = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    names = model.state_dict()
    found: dict[str, str | ConvertedTensor] = {}
    merged: dict[str, list[tuple[str, str]]] = {}
    for key in sorted(keys, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, names)
        if name not in names and key in names:
            name, pattern = key, None
        if pattern is None:
            found[name] = key
        elif name in names:
            merged.setdefault(name, []).append((pattern, key))
    for first, parts in merged.items():
        patterns, sources = zip(*parts, strict=True)
        converter = converter_of[patterns[0]]
        for target in converter.target_patterns:
            name = first.replace(converter.target_patterns[0], target)
            found[name] = ConvertedTensor(name, sources, patterns, converter, first, model)
    return found
