"""
What a mixin for any `Trainer` class is written against.

    class LoggingMixin(Host):
        def log(self, logs, *args, **kwargs):
            super().log(logs, *args, **kwargs)

To a type checker [`Host`] is `Trainer`: it knows the attributes that the mixin finds in `self` and the methods that it
overrides. When the program runs it imports nothing and has no methods, so that the mixin goes before any class. After
`Trainer`, which does not call what follows, the mixin would do nothing: such a class is refused.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["Host", "check_steps_after_backward", "optimizer_of"]

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

    class Host:
        """Refuses, with a `TypeError`, a class whose mixins stand after `Trainer`."""

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            before = [f"{kind.__module__}.{kind.__name__}" for kind in cls.__mro__[: cls.__mro__.index(Host)]]
            if "transformers.trainer.Trainer" in before:
                mixins_first = sorted(cls.__bases__, key=lambda base: not issubclass(base, Host))
                bases = ", ".join(base.__name__ for base in mixins_first)
                raise TypeError(f"a mixin after Trainer is never called: write class {cls.__name__}({bases})")


def check_steps_after_backward(optim: str) -> None:
    """Raise if the optimizer that a `Trainer` is to create steps before anything else can read the whole gradient."""
    if any(kind in optim for kind in ("lomo", "layerwise")):
        raise ValueError(
            f"optim={optim!s} changes the weights during the backward pass, before the gradient can be read: choose an "
            "optimizer that steps afterwards, such as adamw_torch"
        )


def optimizer_of(trainer: Any, create: Callable[..., Any], model: Any) -> "Optimizer":
    """
    The optimizer that a `Trainer` class creates by `create`, the `super().create_optimizer` of a mixin. That may take no model,
    as in transformers 4, or leave the optimizer in `self.optimizer` and return nothing: `Trainer` itself needs no more.
    """
    made: Optimizer | None = create() if model is None else create(model)
    return trainer.optimizer if made is None else made
