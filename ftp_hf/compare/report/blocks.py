"""What a page of a report is made of; Markdown and HTML show each in their way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import yaml

from ftp_hf.common.privacy import public_value
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.statistics import PairedDifference

__all__ = [
    "Block",
    "Code",
    "Picture",
    "Points",
    "Section",
    "Spot",
    "Strong",
    "Table",
    "Text",
    "how_to_repeat",
    "marked",
]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Points:
    """A list of (what is in bold, what is said about it)."""

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Code:
    """To be copied as it is."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Spot:
    """A text that is shown where a reader points at a picture: at shares of its width, and of its height from the top."""

    across: float
    down: float
    text: str


@dataclass(frozen=True)
class Picture:
    """A chart, what it shows for those who do not see it, and how to read it."""

    file: Path
    title: str
    note: str
    spots: Sequence[Spot] = ()
    kind: ClassVar[str] = "picture"


class Strong(str):
    """A cell in bold."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """The first `left` columns are text, the others figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    kind: ClassVar[str] = "table"


Block: TypeAlias = Text | Points | Code | Picture | Table


@dataclass(frozen=True)
class Section:
    """A title and what is below it; if `folded`, hidden until a reader opens it."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


def marked(paired: PairedDifference | None, metric: str) -> str:
    """A cell with a difference, in bold where it is clear."""
    text = difference(paired, metric)
    return Strong(text) if paired is not None and paired.is_clear else text


def how_to_repeat(command: str | None, config: Mapping[str, Any]) -> list[Block]:
    """How what is reported can be run again: the command and the configuration, where known, without paths of the machine."""
    blocks: list[Block] = [Code(public_value(command))] if command else []
    if config:
        text = yaml.safe_dump(public_value(config), sort_keys=False, allow_unicode=True).rstrip()
        blocks += [Text("with this configuration:" if command else "The configuration:"), Code(text)]
    return blocks
