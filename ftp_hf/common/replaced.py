"""Attributes with other values for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["replaced"]


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """
    Set attributes that `owner` has already, itself or by its class, for the block, then restore them. What came from the class
    is deleted from the instance again.
    """
    before = {name: getattr(owner, name) for name in values}
    of_class = values.keys() - vars(owner).keys()
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if name in of_class & vars(owner).keys():
                delattr(owner, name)
            else:  # its own, or a property's
                setattr(owner, name, value)
