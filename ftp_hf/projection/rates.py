"""
The learning rates of the radii: the paper's `radius_lr`, or a share of what the optimizer can move a row by in a step.

With `radius_lr` a radius moves by about as much a step whatever its rows are made of, in units of a row's L1 norm. An
Adam-like optimizer moves every entry by about its learning rate `lr`, and so a row of `n` entries by about `lr · n`: how
soon it outruns its radius depends on the fan-in and on the rate. With `radius_share`, ρ, the radius moves by about

    ρ · lr · n

a step, where `lr` is that of the param group at this step, as a scheduler left it. ρ has no unit: of what the optimizer
could move the row by, it is the share that the radius lets through, whatever the layer, the model and the rate are.

`n` is the *reach* of a tensor: how far, in L1 norm, a row goes if each of its entries moves by one.

- Of a dense weight it is the fan-in, the number of entries in a row of the whole parameter; in one dimension all of them.
- Of a low-rank update `ΔW = L R` it is what moves the rows of `L` alone, whose entries are trained times `s`: row `i` goes
  by at most `s · Σ_r ‖R_r‖₁`, all entries of `R` ([`LowRankProduct.reach`]). At the usual start `L = 0` this is all that a
  step can do; later `R` adds `Σ_r |L_ir| · n` of its own, which is left out: it grows with the length itself that the radius
  bounds, so that a radius with that share of it would grow by a factor a step where this one grows by an amount. What `R`
  has grown to does count.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .tensor import ProjectedTensor

__all__ = ["fan_ins", "radius_rates"]


def radius_rates(group: dict[str, Any], reaches: Callable[[torch.dtype], Tensor], dtype: torch.dtype) -> float | Tensor:
    """
    The learning rates of the radii of a batch in one param group: one for all of its tensors, or one each. `reaches` gives the
    reach of each, (n,), in a dtype; it is called only where `radius_share` is set.
    """
    share = group.get("radius_share")
    return group["radius_lr"] if share is None else reaches(dtype) * (share * group["lr"])  # type: ignore[no-any-return]


def fan_ins(batch: Sequence[ProjectedTensor], dtype: torch.dtype) -> Tensor:
    """The reach of each dense tensor, on their device."""
    return _on_device(batch[0].weight.device, dtype, tuple(tensor.fan_in for tensor in batch))


@functools.lru_cache(maxsize=1024)
def _on_device(device: torch.device, dtype: torch.dtype, values: tuple[int, ...]) -> Tensor:
    # Not `remembered`: the batches of shards and of masters of one step are made again at each, and sending waits for the device.
    return torch.tensor(values, dtype=dtype, device=device)
