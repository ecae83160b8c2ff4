"""
MoFO: an Adam that moves only the entries with the largest momentum (Chen et al., "MoFO: Momentum-Filtered Optimizer for
Mitigating Forgetting in LLM Fine-Tuning", TMLR 2025, arXiv 2407.20999).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from ftp_hf.optim.hooks import step_without_hooks
from ftp_hf.projection.sharding import is_dtensor

__all__ = ["MoFO", "check_fraction"]


class MoFO(AdamW):
    """
    torch's `AdamW`, of whose step each tensor keeps only the entries with the largest momentum:

        m, v, W̃ ← AdamW(W, g)
        W ← W̃ where |m| is among the k = ⌊α n⌋ largest of the tensor's n entries, else W

    with α = `fraction`. It is the momentum after its update by this step (at the first one, the gradient), and the moments of
    all entries are updated. As in the authors' code a block of the paper's partition is a parameter tensor, and k is rounded
    down; here to no less than 1, and of equal momenta no more than k move. Weight decay is a part of the step: what
    does not move does not decay, and keeps its bits. The authors' code decays all entries; their scripts have no decay.

    Memory: that of AdamW, and for as long as a step lasts copies of one tensor at a time: two of its size, a byte an
    entry, and 12 bytes for each entry that moves.

    Args:
        params (iterable): tensors, `(name, tensor)` pairs or param groups. A group may set its own `fraction`; with 1.0 it is
            left to plain AdamW, bit for bit.
        lr, betas, eps, weight_decay, amsgrad, maximize, foreach, capturable, fused:
            as in `torch.optim.AdamW`, with its defaults but `weight_decay=0.0`.
        fraction (`float`, *optional*, defaults to 0.15): α in (0, 1]. The authors recommend 0.05 to 0.2; their scripts for
            fine-tuning have 0.15. It is not resumed: after `load_state_dict` it is what the optimizer was made with.

    Raises:
        ValueError: `fraction` is out of range. In `step`: a sparse gradient, or a tensor that is sharded (FSDP2, tensor
            parallelism), of which no process has all momenta.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        fraction: float = 0.15,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_fraction(fraction)
        rest: dict[str, Any] = {"maximize": maximize, "foreach": foreach, "capturable": capturable, "fused": fused}
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **rest)
        self.defaults["fraction"] = fraction
        for group in self.param_groups:
            group.setdefault("fraction", fraction)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As `Optimizer.add_param_group`; the group may have its own `fraction`."""
        if "fraction" in param_group:
            check_fraction(param_group["fraction"])
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `Optimizer.load_state_dict`, also of an AdamW with the same groups; `fraction` stays as it is."""
        fractions = [group["fraction"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, fraction in zip(self.param_groups, fractions, strict=True):
            group["fraction"] = fraction

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """
        One step of AdamW, of which each tensor keeps what the filter lets through.

        Args:
            closure (`Callable`, *optional*): reevaluates the model and returns the loss.

        Returns:
            What `closure` returned, or `None`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        _check_tensors(groups)
        try:
            for group in groups:
                if group["fraction"] == 1.0:
                    self._unfiltered_step(group, group["params"])
                    continue
                # One tensor at a time, so that no more than one is held twice.
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        before = parameter.clone()
                        self._unfiltered_step(group, [parameter])
                        moves = _largest(self.state[parameter]["exp_avg"].abs(), group["fraction"])
                        parameter.copy_(torch.where(moves, parameter, before))
        finally:
            self.param_groups = groups
        return loss

    def _unfiltered_step(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        self.param_groups = [{**group, "params": parameters}]
        step_without_hooks(AdamW, self)


def _largest(values: Tensor, fraction: float) -> Tensor:
    """Where the ⌊fraction · n⌋ largest entries are, or the largest one."""
    count = min(max(1, int(fraction * values.numel())), values.numel())
    largest = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    largest[values.flatten().topk(count, sorted=False).indices] = True
    return largest.view(values.shape)


def check_fraction(fraction: float) -> None:
    """Raise if it is not a share of entries."""
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction!r}: with 1 all entries move, as by AdamW")


def _check_tensors(groups: list[dict[str, Any]]) -> None:
    """Raise, before any tensor is moved, if one of them cannot be."""
    for group in groups:
        for parameter in group["params"]:
            shape = tuple(parameter.shape)
            if parameter.grad is not None and parameter.grad.is_sparse:
                raise ValueError(
                    f"the gradient of the tensor of shape {shape} is sparse: make its nn.Embedding sparse=False"
                )
            if group["fraction"] < 1.0 and is_dtensor(parameter):
                raise ValueError(
                    f"the tensor of shape {shape} is sharded, and MoFO compares the momenta of whole tensors: train on one "
                    "process or with DDP, or give the group fraction=1.0"
                )
