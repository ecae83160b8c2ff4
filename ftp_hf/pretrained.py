"""What a transformers model tells of the checkpoint that it came from."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.pytorch_utils import Conv1D
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME

__all__ = ["is_fine_tuned", "local_checkpoint", "new_parameters", "renamed_keys", "transposed_parameters"]


def new_parameters(model: nn.Module) -> list[str] | None:
    """
    The parameters that `from_pretrained` did not find in the checkpoint, or found in another shape, and so
    initialised: a new classification head, a resized embedding.

    Args:
        model (`nn.Module`): a model of transformers.

    Returns:
        `list[str]` or `None`: their names; `None` if nothing is known, because the model was not loaded by
            `from_pretrained` or was copied since.
    """
    # `from_pretrained` marks what it loads on the parameter itself; its loading report is not kept (transformers
    # 5.4 to 5.23, `PreTrainedModel._initialize_missing_keys`).
    loaded = {name: getattr(parameter, "_is_hf_initialized", False) for name, parameter in model.named_parameters()}
    return [name for name, is_loaded in loaded.items() if not is_loaded] if any(loaded.values()) else None


def transposed_parameters(model: nn.Module) -> list[str]:
    """
    The weights whose rows (output units) are their dimension 1: those of transformers' `Conv1D`, as in GPT-2.

    Args:
        model (`nn.Module`): any model.

    Returns:
        `list[str]`: their names.
    """
    return [f"{name}.weight" if name else "weight" for name, module in model.named_modules() if type(module) is Conv1D]


def local_checkpoint(name_or_path: str) -> Path:
    """
    The folder or file that holds a model's safetensors weights, fetched from the Hub if it is not a local path.

    Args:
        name_or_path (`str`): a local folder, a safetensors file, or a name on the Hub.

    Returns:
        `Path`: a path that [`~ftp_hf.anchors.CheckpointAnchors`] reads.
    """
    if Path(name_or_path).exists():
        return Path(name_or_path)
    wanted = [CONFIG_NAME, "model*.safetensors", SAFE_WEIGHTS_INDEX_NAME]
    return Path(snapshot_download(name_or_path, allow_patterns=wanted))


def is_fine_tuned(checkpoint: Path) -> bool:
    """
    Whether a local checkpoint was written by a `Trainer`, so that its weights are not the pre-trained ones. Told by the
    files that a `Trainer` leaves beside the weights: a bare `save_pretrained` of a fine-tuned model is not recognised.

    Args:
        checkpoint (`Path`): as [`local_checkpoint`] returns it.

    Returns:
        `bool`
    """
    return any((checkpoint / name).exists() for name in (TRAINER_STATE_NAME, TRAINING_ARGS_NAME))


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
    known = [_saved_model(folder), model]
    return {name: key for model in known if isinstance(model, PreTrainedModel) for name, key in _renamed(model, keys)}


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
