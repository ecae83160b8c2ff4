"""
What a mixin for any `Trainer` class is written against.

    class LoggingMixin(Host):
        def log(self, logs, *args, **kwargs):
            super().log(logs, *args, **kwargs)

To a type checker [`Host`] is `Trainer`: it knows the attributes that the mixin finds in `self` and the methods that it
overrides. When the program runs it is `object`, so that the mixin goes in front of any class, and nothing is imported.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["Host"]

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
