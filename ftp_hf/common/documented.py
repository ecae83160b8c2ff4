"""Options that are explained once, in the docstring of their dataclass."""

import dataclasses
import inspect
import re
from types import MappingProxyType
from typing import Any, TypeVar

__all__ = ["with_help"]

Kind = TypeVar("Kind", bound=type[Any])

_ARGUMENT = re.compile(r"^ {4}(\w+(?:, \w+)*)(?: \(.*?\))?: (.+(?:\n {8,}\S.*)*)", re.MULTILINE)
_REFERENCE = re.compile(r"\[(`[^`]+`)\](?!\()")  # to a class


def with_help(kind: Kind) -> Kind:
    """
    Set each field's `help` from the `Args:` section of the dataclass's docstring. Inherited fields keep the help that they
    have.
    """
    said = {
        name: _REFERENCE.sub(r"\1", " ".join(text.split()))
        for parent in reversed(kind.__mro__)
        for names, text in _ARGUMENT.findall(inspect.cleandoc(parent.__doc__ or "").partition("Args:\n")[2])
        for name in names.split(", ")
    }
    for option in dataclasses.fields(kind):
        if option.name in said and "help" not in option.metadata:
            help_text = said[option.name]
            option.metadata = MappingProxyType({"help": help_text[:1].upper() + help_text[1:]})
    return kind
