"""WiSE-FT: the weights between the pre-trained and the fine-tuned model (Wortsman et al., CVPR 2022, arXiv 2109.01903)."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ._state_dicts import combine_states

__all__ = ["ALPHAS", "interpolate"]

ALPHAS = tuple(step / 10 for step in range(11))
"""A sweep of the mixing coefficient, both ends included."""


def interpolate(
    start: Mapping[str, Tensor],
    fine_tuned: Mapping[str, Tensor],
    alpha: float = 0.5,
    *,
    new: Collection[str] = (),
) -> dict[str, Tensor]:
    """
    `θ_α = (1 − α) θ₀ + α θ₁` (the paper's weight-space ensemble), for every floating-point tensor of a state dict.

    Batch-norm statistics are interpolated as the weights are, as in the authors' code: the statistics of either end do not
    fit a network in between. Integers, such as the count of batches, come from the fine-tuned model.

    The paper starts from a zero-shot classifier, whose head is worth something. A head that was new, and random, at the
    start is not: mixed in, it only adds noise. So it is kept as it was fine-tuned, at each α; name it in `new`. At a small
    α it then meets features that it was not trained on. To have a classifier at both ends, fine-tune from a linear probe
    (LP-FT), and give the probed model as `start`, with nothing new.

        new = new_tensors(model)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer.train()
        fine_tuned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for alpha in ALPHAS:
            model.load_state_dict(interpolate(start, fine_tuned, alpha, new=new))

    Args:
        start (mapping from `str` to `Tensor`): θ₀, the state dict of the model that fine-tuning started from.
        fine_tuned (mapping from `str` to `Tensor`): θ₁, that of the same model after it.
        alpha (`float`, *optional*, defaults to 0.5): α in [0, 1]; 0 gives θ₀ and 1 gives θ₁, bit for bit.
        new (collection of `str`, *optional*, defaults to `()`): the tensors kept as in `fine_tuned`.

    Returns:
        `dict[str, Tensor]`: in the dtype and on the device of `fine_tuned`, under its names.

    Raises:
        ValueError: α is outside [0, 1], `new` names no tensor, or `start` lacks a tensor or has it in another shape.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha!r}: 0 is the start, 1 the fine-tuned model")
    return combine_states(start, fine_tuned, new, lambda before, after: torch.lerp(before, after, alpha))
