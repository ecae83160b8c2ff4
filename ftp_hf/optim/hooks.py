"""Steps of torch's optimizers inside those of ours, and loading between the hooks of others."""

import inspect
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

__all__ = ["has_step_hooks", "load_between_hooks", "step_without_hooks"]


def step_without_hooks(base: type[Optimizer], optimizer: Optimizer) -> None:
    """Run the step of a base class without the hooks of this optimizer."""
    # torch wraps the `step` of a class in its hooks once that class was instantiated, so `super().step()` would run
    # this optimizer's hooks a second time, or not, depending on what else the process did (torch 2.8 to 2.13).
    step = inspect.unwrap(base.step, stop=lambda function: not hasattr(function, "hooked"))
    step(optimizer)


def has_step_hooks(optimizer: Optimizer) -> bool:
    """Whether anything was registered to run before or after the optimizer's step."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)  # torch 2.8 to 2.13


def load_between_hooks(
    optimizer: Optimizer,
    state_dict: dict[str, Any],
    load: Callable[[dict[str, Any]], None],
    restore: Callable[[dict[str, Any]], None],
) -> None:
    """
    Load a state dict and restore what that loses: after the hooks that may put another state dict in its place, and before
    those that may change what was loaded. `restore` takes the state dict that is loaded in the end.
    """
    loaded: list[dict[str, Any]] = []

    def keep(_: Optimizer, adapted: dict[str, Any]) -> None:
        loaded.append(adapted)

    def restore_from_loaded(_: Optimizer) -> None:
        restore(loaded[-1])

    hooks = (
        optimizer.register_load_state_dict_pre_hook(keep),
        optimizer.register_load_state_dict_post_hook(restore_from_loaded, prepend=True),
    )
    try:
        load(state_dict)
    finally:
        for hook in hooks:
            hook.remove()
    if not loaded:  # Some wrapped optimizers have their own way to load, in which there are no hooks.
        restore(state_dict)
