"""The mean of the weights at the end of training (LAWA: Kaddour, 2022, arXiv 2209.14981)."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ftp_hf.common.precision import precise_dtype
from ftp_hf.pretrained.anchors import has_whole_weights
from ftp_hf.pretrained.loading import load_weights

__all__ = ["average", "average_checkpoints"]


@torch.no_grad()
def average(state_dicts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """
    `θ̄ = 1/k Σᵢ θᵢ`, for every floating-point tensor of k state dicts, as the weights were at the last k ends of an epoch
    (LAWA; with a learning rate made for it, SWA: Izmailov et al., UAI 2018, arXiv 1803.05407), or in the last k checkpoints
    (Vaswani et al., NeurIPS 2017, arXiv 1706.03762, who take 5 or 20).

    Batch-norm statistics are averaged as the weights are: nearby checkpoints have nearby ones. They are not those of the
    averaged network; SWA, whose weights lie further apart, estimates them again, as `torch.optim.swa_utils.update_bn` does.
    Integers, such as the count of batches, come from the last.

    Args:
        state_dicts (iterable of mappings from `str` to `Tensor`): θ₁ to θ_k, of one model, the last one last. Each is read
            once, so that one alone has to be in memory beside the mean.

    Returns:
        `dict[str, Tensor]`: in the dtype and on the device of the last; the mean is taken in float32 or wider.

    Raises:
        ValueError: there are none, or a tensor is missing in one, or has another shape there.
    """
    mean: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    for count, last in enumerate(state_dicts, start=1):
        if count == 1:
            floats = {name: tensor for name, tensor in last.items() if tensor.is_floating_point()}
            mean = {name: tensor.to(precise_dtype(tensor), copy=True) for name, tensor in floats.items()}
        else:
            _check_alike(mean, last, count)
            for name, tensor in mean.items():
                tensor.lerp_(last[name].to(tensor), 1 / count)
    if not last:
        raise ValueError("there is nothing to average: give the state dicts of at least one checkpoint")
    return {name: mean[name].to(tensor) if name in mean else tensor.clone() for name, tensor in last.items()}


def average_checkpoints(model: nn.Module, checkpoints: Iterable[str | Path]) -> None:
    """
    Load the [`average`] of checkpoints into a model, whatever names and shards they were saved as.

        newest = list_checkpoints(Path(args.output_dir))[:3]  # of ftp_hf.checkpoints.whole
        average_checkpoints(model, reversed(newest))

    A `Trainer` keeps them for it with `save_only_model=True` and `save_total_limit`.

    Args:
        model (`nn.Module`): the model that they are of, written to in place.
        checkpoints (iterable of `str` or `Path`): folders written by `save_pretrained` or a `Trainer`, the last one last.

    Raises:
        ValueError: there are none, or one holds no safetensors weights of the whole model (an adapter, a sharded state).
    """
    model.load_state_dict(average(_states(model, checkpoints)))


def _states(model: nn.Module, checkpoints: Iterable[str | Path]) -> Iterator[dict[str, Tensor]]:
    for checkpoint in map(Path, checkpoints):
        if not has_whole_weights(checkpoint):
            raise ValueError(
                f"{checkpoint} holds no safetensors weights of the whole model, which are what is averaged: merge an "
                "adapter first, gather a sharded state"
            )
        load_weights(model, checkpoint)
        yield model.state_dict()


def _check_alike(mean: Mapping[str, Tensor], state: Mapping[str, Tensor], count: int) -> None:
    shapes = {name: tensor.shape for name, tensor in state.items() if tensor.is_floating_point()}
    for name in sorted(mean.keys() | shapes.keys()):
        if name not in mean or name not in shapes or mean[name].shape != shapes[name]:
            raise ValueError(
                f"{name} is not in all of the state dicts in one shape (see number {count}): take them from one model"
            )
