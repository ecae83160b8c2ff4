"""The models of transformers within a model, which need not be one itself: sentence-transformers has them as modules."""

from collections.abc import Callable, Iterator

from torch import nn
from transformers import PreTrainedModel

__all__ = ["outermost_models"]


def outermost_models(
    module: nn.Module, where: Callable[[PreTrainedModel], bool] = lambda _: True, prefix: str = ""
) -> Iterator[tuple[str, PreTrainedModel]]:
    """
    The outermost models of transformers, each with what the names of its parameters begin with in the whole: `""` of the
    module itself.

    Args:
        module (`nn.Module`): any module.
        where (callable, *optional*): whether one is meant; if not, those within it may be. By default all are.
        prefix (`str`, *optional*, defaults to `""`): of the module.
    """
    if isinstance(module, PreTrainedModel) and where(module):
        yield prefix, module
    else:
        for name, child in module.named_children():
            yield from outermost_models(child, where, f"{prefix}{name}.")
