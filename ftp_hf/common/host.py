"""
What a mixin for any `Trainer` class is written against.

    class LoggingMixin(Host):
        def log(self, logs, *args, **kwargs):
            super().log(logs, *args, **kwargs)

To a type checker [`Host`] is `Trainer`: it knows the attributes that the mixin finds in `self` and the methods that it
overrides. When the program runs it is `object`, so that the mixin goes in front of any class, and nothing is imported.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["Host", "optimizer_of"]

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import Trainer

    class Host(Trainer):
        """`Trainer`, after its constructor."""

        # Of any class that has the fields of `TrainingArguments`: those of a subclass are looked for by name.
        args: Any
        # `Trainer` declares that these may be `None`, which they are only before they are made.
        model: Any
        model_init: Any
        optimizer: Optimizer

else:
    Host = object


def optimizer_of(trainer: Any, create: Callable[..., Any], model: Any) -> "Optimizer":
    """
    The optimizer that a `Trainer` class creates, also one whose `create_optimizer` takes no model, as in transformers 4, or
    leaves the optimizer in `self.optimizer` and returns nothing: `Trainer` itself needs no more.

    Args:
        trainer (`Trainer`): the one that creates it.
        create (`Callable`): `super().create_optimizer` of a mixin.
        model (`nn.Module` or `None`): what the mixin's `create_optimizer` was given.
    """
    made: Optimizer | None = create() if model is None else create(model)
    return trainer.optimizer if made is None else made
