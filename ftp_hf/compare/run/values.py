"""Checks of the values in a config; their errors name the key, the value and what is allowed, and say all that is wrong."""

import math
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ftp_hf.common.problems import Problems, did_you_mean, number_in_yaml
from ftp_hf.common.yaml_files import read_yaml

__all__ = [
    "check_keys",
    "check_positive",
    "is_list_of",
    "known_methods",
    "prefixed",
    "read_content",
    "read_numbers",
    "wrong_types",
]


def read_content(file: Path, model: str | None = None, methods: Sequence[str] | None = None) -> dict[str, Any]:
    """
    The keys and values of a YAML config, unchecked. `model` and `methods` take the place of its own; the methods keep the
    settings that it has for them.

    Raises:
        FileNotFoundError: it does not exist, or is a folder.
        ValueError: as [`read_yaml`], or it is no mapping.
    """
    if not file.is_file():
        fault = "is a folder" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"{file} {fault}: name the YAML file of the config")
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} must be a mapping of keys to values, not {type(content).__name__}")
    if model is not None:
        content["model"] = model
    if methods is not None:
        given = content.get("methods")
        content["methods"] = {name: given.get(name) if isinstance(given, dict) else None for name in methods}
    return content


@contextmanager
def prefixed(where: str) -> Iterator[None]:
    """Say in an error, and in its notes, where the value stands."""
    problems = Problems()
    with problems.gathered(where):
        yield
    problems.raise_all()


def is_list_of(kind: type, value: Any) -> bool:
    """Whether it is a list of values of a type; truth values are no integers here."""
    return isinstance(value, list) and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def check_keys(where: str, content: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise `ValueError` for keys that are not allowed, with those that may have been meant."""
    allowed, problems = sorted(allowed), Problems()
    for key in content:
        if key not in allowed:
            problems.append(f"unknown key {where}{_named(key, allowed)}")
    problems.raise_all()


def known_methods(value: Any, known: Collection[str], problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    The methods of a config, names or a mapping from names to settings, with their settings, `{}` where it has none. Other
    names and non-mapping settings are passed over, and become `problems`.

    Raises:
        ValueError: it is neither, or empty.
    """
    named = dict.fromkeys(value) if is_list_of(str, value) else value
    if not isinstance(named, dict) or not named:
        raise ValueError(f"methods must be a list of names, or a mapping of names to settings, got {value!r}")
    for name, settings in named.items():
        if name not in known:
            problems.append(f"unknown method {_named(name, known)}")
        elif not isinstance(settings, dict | None):
            problems.append(
                f"methods: {name} must be a mapping of settings to values, got {settings!r}: to leave a method out, delete it"
            )
        else:
            yield name, settings or {}


def _named(unknown: Any, known: Collection[str]) -> str:
    return f"{unknown!r}{did_you_mean(unknown, known)}. Allowed: {', '.join(known)}"


# By the hint of an option: how it is called, and what it may be.
_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    dict[str, Any]: ("a mapping", lambda value: isinstance(value, dict)),
    list[str]: ("a list of texts", lambda value: is_list_of(str, value)),
}


def wrong_types(where: str, kind: type, content: Mapping[str, Any]) -> dict[str, str]:
    """
    What is wrong, by key, with values that the types of their options in a dataclass do not allow. Types other than plain
    ones, and `None`, pass. `where` comes before the key in the message, such as `"training: "`.
    """
    problems = {}
    for key, hint in get_type_hints(kind).items():
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        allowed = [_TYPES.get(option) for option in options if option is not type(None)]
        value = content.get(key)
        if value is None or None in allowed or any(is_one(value) for _, is_one in filter(None, allowed)):
            continue
        point = number_in_yaml(value) if float in options else ""
        expected = " or ".join(name for name, _ in filter(None, allowed))
        problems[key] = f"{where}{key} must be {expected}, got {value!r}{point}"
    return problems


def check_positive(key: str, value: float | None) -> None:
    """Raise `ValueError` unless a number is above zero or missing."""
    if value is not None and value <= 0:
        raise ValueError(f"{key} must be positive, got {value!r}")


def read_numbers(key: str, value: Any) -> list[float]:
    """
    A number or a list of them, as a list.

    Raises:
        ValueError: it is neither, a number is not finite or there twice, or a learning rate or a length is not positive.
    """
    values = value if isinstance(value, list) else [value]
    # YAML reads 1e-3, without a point, as text.
    try:
        numbers = [float(number) for number in values if not isinstance(number, bool)]
    except (TypeError, ValueError):
        numbers = []
    if not values or len(numbers) < len(values) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{key} must be a number or a list of numbers, got {value!r}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{key} has a value twice: {value!r}")
    if key.endswith(("learning_rate", "num_train_epochs")) and min(numbers) <= 0:
        raise ValueError(f"{key} must be positive, got {value!r}")
    return numbers
