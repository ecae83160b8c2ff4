"""Dataclasses as what JSON can hold, and back."""

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["build", "plain"]

Built = TypeVar("Built")

_JSON: Mapping[type, str] = {dict: "an object", list: "a list"}


def plain(value: Any) -> Any:
    """
    A value as JSON can hold it: dataclasses as dicts, without empty fields; scalars and arrays of numpy and
    torch as numbers and lists; `None` for a number that is not finite; of what JSON has no form for, the type's name.
    """
    if dataclasses.is_dataclass(value):
        fields = {option.name: getattr(value, option.name) for option in dataclasses.fields(value)}
        return {name: plain(field) for name, field in fields.items() if not _is_empty(field)}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else type(value).__name__


def _is_empty(field: Any) -> bool:
    return field is None or (isinstance(field, (dict, list)) and not field)


def build(kind: type[Built], content: Any, derived: Sequence[str] = ()) -> Built:
    """
    A dataclass from what [`plain`] made of it, as `json.load` returns it. Keys in `derived` were added for readers, and are
    left out. A number that cannot be `None`, but is, was not finite: it is NaN.

    Raises:
        TypeError: it is not an object, lacks a field, or has no object or list where one belongs.
        ValueError: it has a key that the dataclass does not have.
    """
    hints = get_type_hints(kind)
    content = {name: value for name, value in _checked(dict, content).items() if name not in derived}
    if unknown := content.keys() - hints.keys():
        raise ValueError(f"unknown keys {sorted(unknown)}")
    return kind(**{name: _typed(hints[name], value) for name, value in content.items()})


def _typed(hint: Any, value: Any) -> Any:
    if hint is float and value is None:
        return math.nan
    if get_origin(hint) in (Union, types.UnionType):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return value if value is None or len(inner) > 1 else _typed(inner[0], value)
    if dataclasses.is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is list:
        return [_typed(get_args(hint)[0], item) for item in _checked(list, value)]
    if get_origin(hint) is dict:
        return {name: _typed(get_args(hint)[1], item) for name, item in _checked(dict, value).items()}
    return value


def _checked(kind: type[Built], value: Any) -> Built:
    if not isinstance(value, kind):
        raise TypeError(f"{str(value)[:40]!r} is not {_JSON[kind]}")
    return value
