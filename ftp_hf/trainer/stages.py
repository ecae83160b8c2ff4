"""
Stage after stage: what a training that follows another one takes over from it.

A stage is a call of `train()` that does not resume. With the anchors of the first stage (`"pretrained"`) the optimizer goes
on: that of the Trainer, or that of the checkpoint which the model was loaded from. With `"previous"` each stage has an
optimizer of its own, whose anchors are the weights that it starts from.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.trainer import OPTIMIZER_NAME

from ftp_hf.checkpoints.whole import has_optimizer_state
from ftp_hf.optim.base import ProjectedOptimizer
from ftp_hf.optim.options import GROUP_OPTIONS
from ftp_hf.optim.restart import lengthen_states, restart_radii
from ftp_hf.pretrained.growing import grown_rows
from ftp_hf.pretrained.origin import is_fine_tuned

from .arguments import PRETRAINED, FTPArguments

__all__ = ["go_on", "load_last_stage", "saved_stage"]


def saved_stage(model: nn.Module, options: FTPArguments) -> Path | None:
    """
    The checkpoint of an earlier stage that a model was loaded from, if the stage that begins is to continue with its anchors
    and radii.

    Raises:
        ValueError: a Trainer wrote the folder of the model, and no state of an optimizer is in it.
    """
    origin = Path(getattr(model, "name_or_path", None) or "")
    if options.ftp_anchors != PRETRAINED or not is_fine_tuned(origin):
        return None
    if not (has_optimizer_state(origin) and (origin / OPTIMIZER_NAME).is_file()):
        raise ValueError(
            f"ftp_anchors={PRETRAINED!r}: the model was loaded from {str(origin)!r}, which holds the weights of an earlier stage, but "
            "not its anchors. Load it from one of the checkpoints of that stage, saved with save_only_model=False, or name "
            "the pre-trained model in ftp_anchors"
        )
    return origin


def load_last_stage(optimizer: ProjectedOptimizer, checkpoint: Path) -> None:
    """
    Give an optimizer that was just built the state of one that an earlier stage saved, for the same parameters in the same
    groups. Options that are not the projection's, such as the learning rate, stay those of this stage.
    """
    own = [{key: value for key, value in group.items() if key not in GROUP_OPTIONS} for group in optimizer.param_groups]
    optimizer.load_state_dict(torch.load(checkpoint / OPTIMIZER_NAME, map_location="cpu", weights_only=True))
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.pop("initial_lr", None)
        group.update(options)


def go_on(optimizer: ProjectedOptimizer, model: Any, options: FTPArguments) -> None:
    """
    What changes in an optimizer between two stages: heads may have grown, embeddings may have been resized, and radii may start
    again.
    """
    lengthened, projected = lengthen_states(optimizer), set(optimizer.projected_parameters().values())
    parameters = dict(model.named_parameters())
    rows = lengthened | {parameters[name]: count for name, count in grown_rows(model).items()}
    grown = {parameter: count for parameter, count in rows.items() if parameter in projected}
    if grown:
        optimizer.fill_in(parameters, first_rows=grown)
    if options.ftp_restart_radii:
        restart_radii(optimizer)
