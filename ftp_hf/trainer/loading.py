"""Loading a Trainer's checkpoint completely, also where its tensors go by other names than the model's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ftp_hf.optim.base import projected_optimizer
from ftp_hf.pretrained.anchors import CheckpointAnchors

__all__ = ["CompleteLoadingMixin", "load_best_model", "load_weights"]


class CompleteLoadingMixin:
    """
    `Trainer` resumes, and loads the best model at the end, by the names in the checkpoint. For models whose names
    changed since their first release (ViT among them) most tensors do not match, and `Trainer` only warns: training
    goes on from a model that is half the pre-trained one (transformers#43701, seen in 5.23). This mixin for any
    `Trainer` class loads the missing ones too.
    """

    model: Any

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        _load_whole(self, self.model if model is None else model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        load_best_model(self, super()._load_best_model)  # type: ignore[misc]


def load_best_model(trainer: Any, load: Callable[[], None]) -> None:
    """
    Have a Trainer load the weights of its best checkpoint, all of them, under an optimizer that may go on.

    Args:
        trainer (`Trainer`): `state.best_model_checkpoint` names the checkpoint.
        load (`Callable`): how it does that, `Trainer._load_best_model`.
    """
    if (projected := projected_optimizer(trainer.optimizer)) is not None:
        projected.release_weights()
    load()
    _load_whole(trainer, trainer.model, trainer.state.best_model_checkpoint)


def _load_whole(trainer: Any, model: Any, checkpoint: str) -> None:
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        load_weights(model, Path(checkpoint))


@torch.no_grad()
def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """
    Load all parameters and buffers of a model from the checkpoint of the same model, tensor by tensor. A checkpoint
    without safetensors weights of the whole model (an adapter, a sharded state) is left to its own loader.

    Args:
        model (`nn.Module`): the model, written to in place.
        checkpoint (`Path`): a folder written by `save_pretrained`.

    Raises:
        ValueError: names the parameters that the checkpoint does not hold, or holds in another shape; nothing is loaded.
    """
    if not any((checkpoint / name).is_file() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        return
    tensors = CheckpointAnchors(checkpoint, model)
    held = {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in tensors and tensors.shape(name) == tensor.shape
    }
    loaded = set(held.values())
    rebuilt = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    missing = [name for name, parameter in model.named_parameters() if parameter not in loaded and name not in rebuilt]
    if missing:
        raise ValueError(
            f"{checkpoint} does not hold {', '.join(missing)} in the shape and under a name that can be told: resume "
            "from a checkpoint of this model"
        )
    for name, tensor in held.items():
        tensor.copy_(tensors[name])
