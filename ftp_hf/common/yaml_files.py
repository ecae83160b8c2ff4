"""YAML files that people write."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml"]

_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(file: str | Path) -> Any:
    """
    Read a YAML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8, not YAML, or has a key twice; names the file.
    """
    if Path(file).is_dir():
        raise IsADirectoryError(f"{file} is a folder: name the YAML file")
    try:
        return yaml.load(Path(file).read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - it is a SafeLoader
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason}): save it in this encoding") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """
    Refuses a key that a mapping has twice. YAML does so as well, but PyYAML takes the later value. And merges mappings as YAML
    does: which value of a key PyYAML takes depends, from 6.0.4 on, on how long the key is (yaml/pyyaml#953).
    """

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

    def flatten_mapping(self, node: Any) -> None:
        """Put the pairs that a mapping merges (`<<`) into it: its own go before them, and earlier mappings before later ones."""
        merged = [value for key, value in node.value if key.tag == _MERGE]
        own = node.value = [pair for pair in node.value if pair[0].tag != _MERGE]
        pairs = dict[Any, tuple[Any, Any]]()
        for value in merged:
            for source in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                if not isinstance(source, yaml.MappingNode):
                    line = source.start_mark.line + 1
                    raise yaml.YAMLError(f"<< in line {line} must name a mapping, or a list of them")
                self.flatten_mapping(source)
                pairs |= _by_key(source.value)
        node.value = [*(pairs | _by_key(own)).values()]
        super().flatten_mapping(node)  # which finds nothing to merge any more


def _by_key(pairs: list[tuple[Any, Any]]) -> dict[Any, tuple[Any, Any]]:
    return {(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key: (key, value) for key, value in pairs}
