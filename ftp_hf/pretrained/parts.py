"""The models of transformers within a model, which need not be one itself: sentence-transformers has them as modules."""

from collections.abc import Callable, Iterator

from torch import nn
from transformers import PreTrainedModel

__all__ = ["outermost_models"]


def outermost_models(
    module: nn.Module, where: Callable[[PreTrainedModel], bool] = lambda _: True, prefix: str = ""
) -> Iterator[tuple[str, PreTrainedModel]]:
    """
    The outermost models of transformers for which `where` is true, each with what the names of its parameters begin with in the
    whole: `prefix` for the module itself. One for which it is not may hold others.
    """
    if isinstance(module, PreTrainedModel) and where(module):
        yield prefix, module
    else:
        for name, child in module.named_children():
            yield from outermost_models(child, where, f"{prefix}{name}.")
