"""The JSON schema of a config, for editors, which complete and check its keys with it."""

import types
from typing import Any, Union, get_args, get_origin

from ftp_hf.tasks import TASKS, task_class

from .keys import Key, comparison_keys, corruption_keys, keys_of
from .method_kinds import OF_TRAINING, Trained
from .methods import METHODS

__all__ = ["config_schema"]

_SIMPLE = {str: "string", bool: "boolean", int: "integer", float: "number"}
_NUMBERS = {"type": ["number", "string", "array"], "items": {"type": ["number", "string"]}}  # YAML's 1e-3 is a string
_GIVEN_BY_FLAGS = {"model", "methods", "task"}


def config_schema() -> dict[str, Any]:
    """
    The schema (draft 7) of a config of `ftp-hf compare`, made of the dataclasses that read it. It asks for what every file
    has; values are checked beyond their types when the config is read. A task of the package has its own keys and no others;
    one of your own may have any.

    Raises:
        ImportError: a task needs a package that is not installed.
    """
    own = {key.name: key for key in comparison_keys()}
    of_tasks = {name: keys_of(task_class(name).options_class) for name in TASKS}
    properties = {name: _property(key) for name, key in own.items()}
    for keys in of_tasks.values():
        properties |= {key.name: _property(key) for key in keys if key.name not in properties}
    properties |= {
        "task": {"description": own["task"].help, "anyOf": [{"enum": list(TASKS)}, {"type": "string", "pattern": ":"}]},
        "methods": {"description": own["methods"].help, "anyOf": [_names(), _sweeps()]},
        **{name: {"description": own[name].help, **_NUMBERS} for name in OF_TRAINING},
        "rules": {"description": own["rules"].help, "type": ["array", "string"], "items": {"type": "string"}},
        "corruptions": {
            "description": own["corruptions"].help,
            "type": "object",
            "properties": {
                **{key.name: _property(key) for key in corruption_keys()},
                "kinds": {"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string"}}]},
            },
            "additionalProperties": False,
        },
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A comparison of ftp-hf compare",
        "type": "object",
        "properties": properties,
        "required": [key.name for key in own.values() if key.is_required and key.name not in _GIVEN_BY_FLAGS],
        "oneOf": [{"required": ["validation"]}, {"required": ["validation_fraction"]}],
        "allOf": [
            {
                "if": {"properties": {"task": {"const": name}}, "required": ["task"]},
                "then": {"propertyNames": {"enum": sorted([*own, *(key.name for key in keys)])}},
            }
            for name, keys in of_tasks.items()
        ],
    }


def _property(key: Key) -> dict[str, Any]:
    kinds = [
        hint
        for hint in (get_args(key.hint) if get_origin(key.hint) in (Union, types.UnionType) else (key.hint,))
        if hint is not type(None)
    ]
    known: dict[str, Any] = {"description": key.help}
    if isinstance(key.default, str | bool | int | float):
        known["default"] = key.default
    if len(kinds) == 1 and kinds[0] in _SIMPLE:
        return {**known, "type": _SIMPLE[kinds[0]]}
    if len(kinds) == 1 and get_origin(kinds[0]) is list:
        return {**known, "type": "array", "items": {"type": _SIMPLE[get_args(kinds[0])[0]]}}
    return {**known, "type": "object"}


def _names() -> dict[str, Any]:
    return {"type": "array", "items": {"enum": list(METHODS)}, "minItems": 1}


def _sweeps() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {
                "description": f"{method.title}: {method.source}",
                "type": ["object", "null"],
                "properties": {
                    setting: {"default": list(values), **_NUMBERS}
                    for setting, values in {
                        **(dict.fromkeys(OF_TRAINING, ()) if isinstance(method, Trained) else {}),
                        **method.sweep,
                    }.items()
                },
                "additionalProperties": False,
            }
            for name, method in METHODS.items()
        },
        "additionalProperties": False,
        "minProperties": 1,
    }
