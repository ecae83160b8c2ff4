"""State dicts of one model before and after fine-tuning, tensor by tensor."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from ftp_hf.common.names import canonical_name

__all__ = ["combine_states"]


@torch.no_grad()
def combine_states(
    start: Mapping[str, Tensor],
    fine_tuned: Mapping[str, Tensor],
    new: Collection[str],
    combine: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """
    Each floating-point tensor, combined; by the names in `fine_tuned`. Integers, such as the count of batches, come from the
    fine-tuned model.

    Args:
        start (mapping from `str` to `Tensor`): θ₀, the state dict of the model that fine-tuning started from.
        fine_tuned (mapping from `str` to `Tensor`): θ₁, that of the same model after it.
        new (collection of `str`): the tensors kept as in `fine_tuned`.
        combine (callable): from a tensor of θ₀, in the dtype and on the device of `fine_tuned`, and the one of θ₁.

    Raises:
        ValueError: `new` names no tensor, or `start` lacks a tensor or has it in another shape.
    """
    start = {canonical_name(name): tensor for name, tensor in start.items()}
    kept = {canonical_name(name) for name in ([new] if isinstance(new, str) else new)}
    names = {canonical_name(name) for name in fine_tuned}
    if unknown := kept - names:
        raise ValueError(f"new: the fine-tuned model has no {', '.join(sorted(unknown))}")
    combined = {}
    for name, tensor in fine_tuned.items():
        key = canonical_name(name)
        if key in kept or not tensor.is_floating_point():
            combined[name] = tensor.clone()
        elif key not in start or start[key].shape != tensor.shape:
            found = f"has it in the shape {tuple(start[key].shape)}" if key in start else "does not hold it"
            raise ValueError(
                f"{name} has the shape {tuple(tensor.shape)}, but the start {found}: take both from the same model, and "
                "name what was new in new="
            )
        else:
            combined[name] = combine(start[key].to(tensor), tensor)
    return combined
