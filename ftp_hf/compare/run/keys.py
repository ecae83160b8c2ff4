"""The keys of a config with what they mean, as the dataclasses of a comparison and its task have them."""

import dataclasses
from dataclasses import MISSING, dataclass
from typing import Any, get_type_hints

from ftp_hf.common.documented import with_help
from ftp_hf.tasks import DataOptions

from .config import ComparisonConfig, CorruptionOptions

__all__ = ["Key", "comparison_keys", "corruption_keys", "keys_of"]


@dataclass(frozen=True)
class Key:
    """
    A key of a config.

    Args:
        name (`str`): as it is written.
        hint: the type of its value.
        default: its value where it is left out; `dataclasses.MISSING` where it must be given.
        help (`str`): what it means, as its dataclass says.
    """

    name: str
    hint: Any
    default: Any
    help: str

    @property
    def is_required(self) -> bool:
        """Whether every config has it."""
        return self.default is MISSING


def comparison_keys() -> list[Key]:
    """Those of every comparison, data first."""
    of_data = keys_of(DataOptions)
    inherited = {key.name for key in of_data}
    own = [key for key in keys_of(ComparisonConfig) if key.name not in {*inherited, "reading"}]
    # What the class needs, but a file need not say: it is the name of the file, and the first metric of the task.
    unsaid = ("name", "metric")
    return [*of_data, *(dataclasses.replace(key, default=None) if key.name in unsaid else key for key in own)]


def corruption_keys() -> list[Key]:
    """Those under `corruptions`."""
    return [
        dataclasses.replace(key, default="all") if key.name == "kinds" else key for key in keys_of(CorruptionOptions)
    ]


def keys_of(kind: type[Any]) -> list[Key]:
    """The fields of a dataclass, such as [`DataOptions`] or the `options_class` of a task, as keys."""
    hints = get_type_hints(kind)
    return [
        Key(option.name, hints[option.name], _default(option), option.metadata.get("help", ""))
        for option in dataclasses.fields(with_help(kind))
    ]


def _default(option: "dataclasses.Field[Any]") -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()
