"""What a page of a report is made of; Markdown and HTML show each in their way."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.statistics import PairedDifference

__all__ = ["Block", "Code", "Picture", "Points", "Section", "Spot", "Strong", "Table", "Text", "marked"]


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
