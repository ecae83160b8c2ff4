"""Which of torch's optimizers can step in pieces, and AdamW's step in the pass of the radius gradient."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop, Rprop

from ftp_hf.projection.adamw_step import adamw_steps
from ftp_hf.projection.kernels.dispatch import Kernels, take_adamw_steps

__all__ = ["MOVE_EACH_ALONE", "radius_gradients"]

MOVE_EACH_ALONE = {ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop}
"""Those whose step of a parameter depends on its own gradient and state alone, so that it may be taken in pieces."""


def radius_gradients(
    kernels: Kernels, batch: Sequence[Any], optimizer: type[Optimizer]
) -> tuple[Tensor, Sequence[Tensor]]:
    """
    `∇γ(t)`, one value per tensor, and the parameters that have taken the unconstrained step in the same pass, themselves or
    their masters: AdamW's, where the kernels can.
    """
    if optimizer is not AdamW or not take_adamw_steps(kernels):
        return kernels.radius_gradients(batch), ()
    steps = adamw_steps(batch)
    moved = [tensor.source for tensor, step in zip(batch, steps, strict=True) if step is not None]
    return kernels.radius_gradients(batch, steps), moved
