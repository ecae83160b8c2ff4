"""MoFO under a `Trainer`, which makes its optimizer itself."""

from collections.abc import Collection
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from transformers.training_args import OptimizerNames

from ftp_hf.common.host import Host, optimizer_of

from ._anchored import check_whole, new_among_trained
from .mofo import MoFO, check_fraction

__all__ = ["MoFOTrainerMixin"]

_ADAMW = (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED)
_NOT_ARGUMENTS = ("differentiable", "decoupled_weight_decay")


class MoFOTrainerMixin(Host):
    """
    For any `Trainer` class: [`MoFO`] instead of the AdamW that it creates, with its param groups and its learning rate,
    betas, epsilon and weight decay.

    All entries move in biases, normalisation parameters and other tensors of fewer than two dimensions, as in the authors'
    code, which knows them by their names; and in new parameters (a classification head), which have nothing to keep: the
    paper has none. The factors of LoRA are filtered as other tensors are.

    Args:
        fraction (`float`, *optional*, defaults to 0.15): α in (0, 1], of all other tensors.
        new (collection of `str`, *optional*, defaults to `()`): names or glob patterns of new parameters beside those that
            the model's checkpoint does not hold.

    Raises:
        ValueError: `fraction` is out of range; a pattern matches no parameter; `optimizers=`, or `args.optim` is not
            `"adamw_torch"` or `"adamw_torch_fused"`; FSDP, DeepSpeed or another strategy that splits tensors.
    """

    method_name = "mofo"

    optimizer: Any

    def __init__(self, *args: Any, fraction: float = 0.15, new: Collection[str] = (), **kwargs: Any) -> None:
        check_fraction(fraction)
        super().__init__(*args, **kwargs)
        check_whole(self.method_name, self.model, self.accelerator)
        if self.optimizer is not None:
            raise ValueError("optimizers=: MoFO is an optimizer itself. Give PlainTrainer optimizers=(MoFO(…), None)")
        if self.args.optim not in _ADAMW:
            allowed = " or ".join(repr(name.value) for name in _ADAMW)
            raise ValueError(f"MoFO is an AdamW, and optim={self.args.optim.value!r} asks for another: take {allowed}")
        self.fraction = fraction
        self._new = new_among_trained(self.model, new)

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """[`MoFO`], with the options of the optimizer that the Trainer class creates."""
        if self.optimizer is not None:  # a second `train()`
            optimizer: Optimizer = self.optimizer
            return optimizer
        made = optimizer_of(self, super().create_optimizer, model)
        if type(made) is not AdamW:
            raise ValueError(
                f"MoFO is an AdamW, and the Trainer creates a {type(made).__name__}: leave out what asks for it"
            )
        named = (self.model if model is None else model).named_parameters()
        whole = {parameter for name, parameter in named if parameter.ndim < 2 or name in self._new}
        options = {name: value for name, value in made.defaults.items() if name not in _NOT_ARGUMENTS}
        self.optimizer = optimizer = MoFO(_split(made.param_groups, whole), fraction=self.fraction, **options)
        return optimizer


def _split(groups: list[dict[str, Any]], whole: set[nn.Parameter]) -> list[dict[str, Any]]:
    """The groups, each as one whose entries are filtered and one whose are not."""
    split = []
    for group in groups:
        options = {name: value for name, value in group.items() if name != "param_names"}
        split.append({**options, "params": [p for p in group["params"] if p not in whole]})
        split.append({**options, "params": [p for p in group["params"] if p in whole], "fraction": 1.0})
    return [group for group in split if group["params"]]
