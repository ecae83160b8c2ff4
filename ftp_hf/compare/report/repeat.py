"""How what is reported can be run again."""

from collections.abc import Mapping
from typing import Any

import yaml

from ftp_hf.common.privacy import public_value

from .blocks import Block, Code, Text

__all__ = ["how_to_repeat"]


def how_to_repeat(command: str | None, config: Mapping[str, Any]) -> list[Block]:
    """The command and the configuration, where they are known, without paths of the machine."""
    blocks: list[Block] = [Code(public_value(command))] if command else []
    if config:
        text = yaml.safe_dump(public_value(config), sort_keys=False, allow_unicode=True).rstrip()
        blocks += [Text("with this configuration:" if command else "The configuration:"), Code(text)]
    return blocks
