"""Errors and warnings about what is projected, and around what."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftp_hf.common.names import canonical_name
from ftp_hf.optim.base import ProjectedOptimizer
from ftp_hf.optim.unwrap import projected_optimizer
from ftp_hf.pretrained.origin import is_fine_tuned

__all__ = ["check_not_halved", "check_projects", "check_something_is_left", "warn_of_fine_tuned"]

logger = logging.getLogger(__name__)


def check_not_halved(projected: ProjectedOptimizer, model: nn.Module) -> None:
    """Raise `ValueError` if an evaluation has left projected weights in float16, between two trainings."""
    factors = {name for update in projected.low_rank_updates for name in update.factors}
    names = projected.projected_parameters().keys() | factors
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float16 and canonical_name(name) in names:
            raise ValueError(
                f"{name} is {parameter.dtype}, which is not projected: an evaluation with fp16_full_eval=True leaves the weights "
                "so. Train a new trainer with the model as it was saved before, and leave fp16_full_eval out"
            )


def check_projects(trainer: Any) -> None:
    """Raise `ValueError` if a Trainer would take a step with an optimizer that does not project."""
    if projected_optimizer(trainer.optimizer) is None:
        plain = type(getattr(trainer.optimizer, "optimizer", trainer.optimizer)).__name__  # which Accelerate wraps
        raise ValueError(
            f"nothing projects: {type(trainer).__name__} has an optimizer of its own, {plain}, and training would be plain. Let its "
            "create_optimizer set self.optimizer and return super().create_optimizer(), or make an FTPAdamW, FTPSGD or FTP "
            "there; of a Trainer class that knows nothing of FTP, put FTPTrainerMixin in front: class "
            "FTPMyTrainer(FTPTrainerMixin, MyTrainer)"
        )


def check_something_is_left(projected: ProjectedOptimizer, model: nn.Module) -> None:
    """Raise `ValueError` if an optimizer of a model projects nothing."""
    if not projected.projected_parameters() and not projected.low_rank_updates:
        requires_grad = [parameter.requires_grad for parameter in model.parameters()]
        frozen, all_of_them = requires_grad.count(False), len(requires_grad)
        counted = f"{frozen} of {all_of_them} are frozen (requires_grad=False), and " if frozen else ""
        raise ValueError(
            f"no parameter is left to project: {counted}all trained parameters are new, excluded, or of an adapter that "
            "is not projected. Check ftp_exclude, set ftp_exclude_new=False (for new parameters) or "
            "ftp_adapters='factors' (for those of an adapter) to project them around their initial values, or use the "
            "plain Trainer"
        )


def warn_of_fine_tuned(model: nn.Module) -> None:
    """Say that the anchors are those of a model that was fine-tuned already."""
    origin = getattr(model, "name_or_path", "")
    if origin and is_fine_tuned(Path(origin)):
        logger.warning(
            "The anchors are the weights of %s, which a Trainer wrote: they are fine-tuned, not pre-trained ones. "
            "Name the pre-trained model in ftp_anchors if that is not what you mean.",
            origin,
        )
