"""The optimizer that projects, inside whatever is around it."""

from typing import Any

from .base import ProjectedOptimizer

__all__ = ["projected_optimizer"]


def projected_optimizer(optimizer: Any) -> ProjectedOptimizer | None:
    """
    The projecting optimizer inside the wrappers that Accelerate puts around it.

    Args:
        optimizer (`Optimizer` or `None`): for example `trainer.optimizer`.

    Returns:
        `ProjectedOptimizer` or `None`: `None` if nothing projects.
    """
    while optimizer is not None and not isinstance(optimizer, ProjectedOptimizer):
        optimizer = getattr(optimizer, "optimizer", None)
    return optimizer
