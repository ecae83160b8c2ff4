"""Weights of a checkpoint into a model, whatever names and tensors it saved them as."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from .anchors import CheckpointAnchors, has_whole_weights

__all__ = ["is_loaded", "is_renewed", "load_weights", "mark_loaded", "mark_new"]

_LOADED = "_is_hf_initialized"
"""
With this mark on the parameter itself `from_pretrained` says that it loaded it; its loading report is not kept (transformers
5.18 to 5.23, `PreTrainedModel._initialize_missing_keys`). Resizing the input embeddings leaves the parameter and its mark, that
of the output embeddings makes a new parameter.
"""

_RENEWED = "_is_renewed"


@torch.no_grad()
def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """
    Load all parameters and buffers of a model from the checkpoint of the same model, tensor by tensor. A checkpoint
    without safetensors weights of the whole model (an adapter, a sharded state) is left to its own loader.

    Args:
        model (`nn.Module`): the model, written to in place.
        checkpoint (`Path`): a folder written by `save_pretrained`.

    Raises:
        ValueError: names the parameters that the checkpoint does not hold, holds in another shape, or of which it holds
            a part (one expert is missing); nothing is loaded.
    """
    if not has_whole_weights(checkpoint):
        return
    tensors = CheckpointAnchors(checkpoint, model)
    held = {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in tensors and tensors.shape(name) == tensor.shape
    }
    loaded = set(held.values())
    missing = [name for name, parameter in model.named_parameters() if parameter not in loaded]
    if missing:
        raise ValueError(
            f"{checkpoint} does not hold {', '.join(missing)} in the shape and under a name that can be told: resume "
            "from a checkpoint of this model"
        )
    for name, tensor in held.items():
        tensor.copy_(tensors[name])


def is_loaded(parameter: nn.Parameter) -> bool:
    """Whether `from_pretrained` found a parameter in the checkpoint."""
    return getattr(parameter, _LOADED, False)


def mark_loaded(parameters: Iterable[nn.Parameter]) -> None:
    """Have parameters count as loaded: none of them is new."""
    for parameter in parameters:
        setattr(parameter, _LOADED, True)


def mark_new(parameter: nn.Parameter) -> None:
    """Have a parameter count as one that the checkpoint does not hold, for transformers too, which then initialises it."""
    setattr(parameter, _LOADED, False)
    setattr(parameter, _RENEWED, True)


def is_renewed(parameter: nn.Parameter) -> bool:
    """Whether a parameter is new on purpose, by [`mark_new`], whatever the checkpoint holds."""
    return getattr(parameter, _RENEWED, False)
