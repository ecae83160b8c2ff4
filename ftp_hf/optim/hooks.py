"""Steps of torch's optimizers inside those of ours."""

import inspect

from torch.optim import Optimizer

__all__ = ["has_step_hooks", "step_without_hooks"]


def step_without_hooks(base: type[Optimizer], optimizer: Optimizer) -> None:
    """The step of a base class of torch's, of which the hooks of this optimizer do not see anything."""
    # torch wraps the `step` of a class in its hooks once that class was instantiated, so `super().step()` would run
    # this optimizer's hooks a second time, or not, depending on what else the process did (torch 2.8 to 2.13).
    step = inspect.unwrap(base.step, stop=lambda function: not hasattr(function, "hooked"))
    step(optimizer)


def has_step_hooks(optimizer: Optimizer) -> bool:
    """Whether anything was registered to run before or after the optimizer's step."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)  # torch 2.8 to 2.13
