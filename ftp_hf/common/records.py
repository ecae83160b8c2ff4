"""Dataclasses as what JSON can hold, and back."""

import dataclasses
import types
from collections.abc import Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["build", "plain"]

Built = TypeVar("Built")


def plain(value: Any) -> Any:
    """Dataclasses as dicts, without the fields that tell nothing."""
    if dataclasses.is_dataclass(value):
        fields = {option.name: getattr(value, option.name) for option in dataclasses.fields(value)}
        return {name: plain(field) for name, field in fields.items() if field is not None and field not in ({}, [])}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def build(kind: type[Built], content: Any, derived: Sequence[str] = ()) -> Built:
    """
    A dataclass from what [`plain`] made of it.

    Args:
        kind (`type`): the dataclass; its fields may be dataclasses, and lists and dicts of them.
        content: as `json.load` returns it.
        derived (sequence of `str`, *optional*): keys that were added for readers, and are left out.

    Raises:
        TypeError: it is not an object, or lacks a field.
        ValueError: it has a key that the dataclass has not.
    """
    if not isinstance(content, dict):
        raise TypeError(f"{str(content)[:40]!r} is not an object")
    hints = get_type_hints(kind)
    content = {name: value for name, value in content.items() if name not in derived}
    if unknown := content.keys() - hints.keys():
        raise ValueError(f"unknown keys {sorted(unknown)}")
    return kind(**{name: _typed(hints[name], value) for name, value in content.items()})


def _typed(hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return _typed(inner[0], value) if len(inner) == 1 else value
    if dataclasses.is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is list:
        return [_typed(get_args(hint)[0], item) for item in value]
    if get_origin(hint) is dict:
        return {name: _typed(get_args(hint)[1], item) for name, item in value.items()}
    return value
