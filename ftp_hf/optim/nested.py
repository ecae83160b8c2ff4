"""Values of an optimizer's state: tensors, and dicts and sequences of them, as deep as the optimizer likes."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ftp_hf.projection.sharding import local

__all__ = ["map_tensors", "same"]


def map_tensors(function: Callable[[Tensor], Tensor], value: Any, key: Any = None) -> Any:
    """
    The value, or the dict, list, tuple or deque, with `function` applied to its tensors. Those under the key `"step"` stay:
    torch has rules of its own for where they are.
    """
    if isinstance(value, Tensor):
        return value if key == "step" else function(value)
    if type(value) is dict:
        return {name: map_tensors(function, part, name) for name, part in value.items()}
    if type(value) is deque:
        return deque((map_tensors(function, part) for part in value), value.maxlen)
    if type(value) in (list, tuple):
        return type(value)(map_tensors(function, part) for part in value)
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, tensors in every element, wherever they are."""
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = local(one), local(other)
        return one.dtype == other.dtype and torch.equal(one, other.to(one.device))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(part, other[key]) for key, part in one.items())
    if isinstance(one, (list, tuple, deque)) and isinstance(other, (list, tuple, deque)):
        return len(one) == len(other) and all(same(*parts) for parts in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)
