"""YAML files that people write."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml"]


def read_yaml(file: str | Path) -> Any:
    """
    What a YAML file has.

    Args:
        file (`str` or `Path`): in UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8, not YAML, or has a key twice; names the file.
    """
    try:
        return yaml.load(Path(file).read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - it is a SafeLoader
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason}): save it in this encoding") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """Refuses a key that a mapping has twice. YAML does so as well, but PyYAML takes the later value."""

    def compose_mapping_node(self, anchor: str | None) -> Any:
        """As composed from the file, before merge keys (`<<`) add those that the mapping may replace."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(f"the key {key.value!r} is in line {lines[name]} and in line {line}: delete one")
            lines[name] = line
        return node
