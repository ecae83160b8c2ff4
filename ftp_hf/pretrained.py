"""What a transformers model tells of the checkpoint that it came from."""

from pathlib import Path

from huggingface_hub import snapshot_download
from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

__all__ = ["is_fine_tuned", "local_checkpoint", "new_parameters", "transposed_parameters"]


def new_parameters(model: nn.Module) -> list[str]:
    """
    The parameters that `from_pretrained` did not find in the checkpoint, or found in another shape, and so
    initialised: a new classification head, a resized embedding.

    Args:
        model (`nn.Module`): a model of transformers.

    Returns:
        `list[str]`: their names; empty if the model does not come from `from_pretrained`, where nothing is known.
    """
    # `from_pretrained` marks what it loads on the parameter itself; its loading report is not kept (transformers
    # 5.0 to 5.23, `PreTrainedModel._initialize_missing_keys`).
    loaded = {name: getattr(parameter, "_is_hf_initialized", False) for name, parameter in model.named_parameters()}
    return [name for name, is_loaded in loaded.items() if not is_loaded] if any(loaded.values()) else []


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
    return Path(snapshot_download(name_or_path, allow_patterns=["*.safetensors", "*.safetensors.index.json"]))


def is_fine_tuned(checkpoint: Path) -> bool:
    """
    Whether a local checkpoint was written by a `Trainer`, so that its weights are not the pre-trained ones.

    Args:
        checkpoint (`Path`): as [`local_checkpoint`] returns it.

    Returns:
        `bool`
    """
    return any((checkpoint / name).exists() for name in (TRAINER_STATE_NAME, TRAINING_ARGS_NAME))
