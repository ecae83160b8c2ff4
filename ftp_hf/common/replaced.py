"""Attributes with other values for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["replaced"]


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """
    Attributes with other values within the block.

    Args:
        owner: has them already, itself or by its class.
        **values: by the name of the attribute.
    """
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
