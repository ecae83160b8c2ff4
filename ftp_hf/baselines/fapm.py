"""FAPM: the part of fine-tuning that forgets least (Huang, Cheng and Wang, EMNLP 2025, arXiv 2509.08255)."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ftp_hf.common.precision import precise_dtype

from ._state_dicts import combine_states

__all__ = ["fapm", "forgetting_aware_score"]


def fapm(
    start: Mapping[str, Tensor],
    fine_tuned: Mapping[str, Tensor],
    ratio: float = 0.1,
    *,
    new: Collection[str] = (),
) -> dict[str, Tensor]:
    """
    `θ₀ + m ⊙ (θ₁ − θ₀)`, where the mask m keeps of each tensor the share `ratio` of the task vector with the highest
    [`forgetting_aware_score`]. What is kept is not rescaled. It needs neither data nor another training.

    As in the authors' code, every tensor is pruned for itself, embeddings, norms and biases among them, and `⌊ratio · n⌋` of
    its n entries are kept, whatever the sign of their score. Of a tensor with fewer than 1 / ratio entries that is none.

    Batch-norm statistics, which the paper's language models do not have, are pruned as the weights are: most of them stay
    pre-trained, as most of the weights that they describe do. Integers, such as the count of batches, come from the
    fine-tuned model. So does a new head, which has no pre-trained value to be pruned to: name it in `new`.

        new = new_tensors(model)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer.train()
        model.load_state_dict(fapm(start, model.state_dict(), new=new))

    Args:
        start (mapping from `str` to `Tensor`): θ₀, the state dict of the model that fine-tuning started from.
        fine_tuned (mapping from `str` to `Tensor`): θ₁, that of the same model after it.
        ratio (`float`, *optional*, defaults to 0.1): the share in [0, 1] of each tensor's entries that keep their change: 1
            minus the paper's sparsity, which is 90 %. 0 gives θ₀ and 1 gives θ₁, bit for bit.
        new (collection of `str`, *optional*, defaults to `()`): the tensors kept as in `fine_tuned`.

    Returns:
        `dict[str, Tensor]`: in the dtype and on the device of `fine_tuned`, under its names.

    Raises:
        ValueError: the ratio is outside [0, 1], `new` names no tensor, or `start` lacks a tensor or has it in another shape.
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"ratio must lie in [0, 1], got {ratio!r}: 0 is the start, 1 the fine-tuned model")

    def pruned(before: Tensor, after: Tensor) -> Tensor:
        kept = torch.zeros(before.numel(), dtype=torch.bool, device=before.device)
        order = forgetting_aware_score(before, after).flatten().argsort(descending=True, stable=True)
        kept[order[: int(ratio * before.numel())]] = True
        return torch.where(kept.view_as(before), after, before)

    return combine_states(start, fine_tuned, new, pruned)


def forgetting_aware_score(start: Tensor, fine_tuned: Tensor) -> Tensor:
    """
    `S = |ΔW| − mean(|W₀|) · |ΔW| / |W₀|`: a change counts less, the larger it is beside the pre-trained weight, by which
    the paper finds what is forgotten; the mean brings both terms to one scale.

    The score of an entry whose pre-trained value is zero is −∞, the limit, also where it has not changed (0 / 0, which the
    authors' code would sort first). Where all of a tensor is zero there is no scale, and the score is `|ΔW|`.

    Args:
        start (`Tensor`): W₀, a tensor of the pre-trained model.
        fine_tuned (`Tensor`): W₀ + ΔW, of the same shape.

    Returns:
        `Tensor`: of that shape, in float32 or wider.
    """
    dtype = precise_dtype(start)
    size = start.to(dtype).abs()
    change = (fine_tuned.to(dtype) - start.to(dtype)).abs()
    if not size.any():
        return change
    return torch.where(size == 0, -torch.inf, change - size.mean() * change / size)
