"""An optimizer in a line, as it was built."""

from typing import Any

import torch

from .base import ProjectedOptimizer
from .options import GROUP_OPTIONS, SET_ASIDE
from .unwrap import projected_optimizer

__all__ = ["describe_optimizer"]

# What a param group holds beside the options of its optimizer.
_NOT_OPTIONS = {
    *GROUP_OPTIONS,
    "params",
    "param_names",
    "initial_lr",
    "differentiable",
    "capturable",
    "foreach",
    "maximize",
    "decoupled_weight_decay",
}


def describe_optimizer(optimizer: Any) -> str:
    """The optimizer that took the steps, without the projection around it, and its options."""
    projected = projected_optimizer(optimizer)
    inner: Any = projected or optimizer
    while isinstance(getattr(inner, "optimizer", None), torch.optim.Optimizer):
        inner = inner.optimizer
    kind = type(inner)
    if isinstance(inner, ProjectedOptimizer):
        kind = next(base for base in kind.__mro__ if not issubclass(base, ProjectedOptimizer))
    options: dict[str, list[Any]] = {}
    for group in inner.param_groups:
        if group["params"]:
            rate = {"lr": group.get("initial_lr", group.get("lr"))}
            for option, value in {**rate, **group, **rate}.items():
                if option not in _NOT_OPTIONS and value is not None and value is not False:
                    values = options.setdefault(option.removeprefix(SET_ASIDE), [])
                    values.extend([] if value in values else [value])
    shown = ", ".join(f"{option}={' or '.join(map(str, values))}" for option, values in options.items())
    module = kind.__module__.split(".")[0]
    return f"{'torch.optim' if module == 'torch' else module}.{kind.__name__}({shown})"
