"""A comparison as a report: `report.html` in one file, `report.md`, and charts."""

import base64
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ftp_hf.common.figures import table
from ftp_hf.common.files import write_text
from ftp_hf.compare.evidence.measures import check_same_data
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.compare.evidence.verdict import headline

from .blocks import Picture, Section, Strong, Table
from .sections import sections, unfinished

__all__ = ["HTML", "MARKDOWN", "check_charts_can_be_drawn", "pages", "report_texts", "write_pages", "write_report"]

HTML, MARKDOWN = "report.html", "report.md"

# Places where Markdown would see a mark: anywhere, at the edges of words, at the start of a line, and of a link.
_MARKS = re.compile(
    r"(?=[\\`*<~$])|(?=&[#\w]+;)|(?<!\w)(?=_)|(?=_(?!\w))|^(?=>|#+(?:\s|$)|[+-](?:[\s-]|$))|(?<=\])(?=[(\[:])"
)
_NUMBERED = re.compile(r"^(\d+)(?=[.)](?:\s|$))")


class _Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def write_report(results: ComparisonResults, folder: str | Path) -> list[Path]:
    """
    Write the report of a comparison, in place of an earlier one.

    Args:
        results ([`ComparisonResults`]): finished or on its way.
        folder (`str` or `Path`): where it goes, created if need be.

    Returns:
        `list[Path]`: `report.html`, which needs no other file, `report.md` and the charts.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: two methods were evaluated on different data.
    """
    check_charts_can_be_drawn()
    check_same_data(results)
    from .charts import drawn  # noqa: PLC0415 (matplotlib is optional)
    from .pictures import save_charts  # noqa: PLC0415

    folder = Path(folder)
    pictures = save_charts(drawn(results), folder)
    return write_pages(report_texts(results, pictures), pictures, folder)


def report_texts(results: ComparisonResults, pictures: Mapping[str, Picture]) -> dict[str, str]:
    """The report in both forms, by the name of the file."""
    return pages(results.name, headline(results), sections(results, pictures), unfinished=unfinished(results))


def pages(name: str, headline: str, sections: Sequence[Section], *, unfinished: str = "") -> dict[str, str]:
    """A report in both forms, by the name of the file."""
    facts = {"name": name, "headline": headline, "unfinished": unfinished, "sections": sections}
    forms = {HTML: _html(), MARKDOWN: _markdown()}
    return {name: environment.get_template(name).render(facts) for name, environment in forms.items()}


def write_pages(texts: Mapping[str, str], pictures: Mapping[str, Picture], folder: Path) -> list[Path]:
    """Write the texts of [`pages`] beside the pictures, which are there already; return all files."""
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / HTML, folder / MARKDOWN, *(picture.file for picture in pictures.values())]


def check_charts_can_be_drawn() -> None:
    """
    To be called before anything is trained.

    Raises:
        ImportError: matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise ImportError('the report of a comparison needs matplotlib: pip install "ftp-hf[compare]"')


def escape_markdown(text: str) -> str:
    """Text as Markdown that shows it as it is, in a paragraph or a cell. Line breaks become spaces."""
    line = re.sub(r"[\r\n]+", " ", text)
    return _Markdown(_NUMBERED.sub(r"\1\\", _MARKS.sub(r"\\", line)))


def _environment(**own: Any) -> Environment:
    shared: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=FileSystemLoader(Path(__file__).parent), **shared, **own)  # noqa: S701 (as is asked for)


def _html() -> Environment:
    environment = _environment(autoescape=True)
    environment.filters["inline"] = _inline
    environment.tests["strong"] = lambda cell: isinstance(cell, Strong)
    return environment


def _markdown() -> Environment:
    """Escapes all that is not markup, as the environment for HTML does."""
    environment = _environment(
        finalize=lambda value: value if isinstance(value, _Markdown) else escape_markdown(str(value))
    )
    environment.filters |= {"table": _markdown_table, "fenced": _fenced, "path": _path}
    return environment


def _inline(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.file.read_bytes()).decode()}"


def _markdown_table(content: Table) -> str:
    rows = [[_cell(cell) for cell in row] for row in content.rows]
    return _Markdown(table([_cell(cell) for cell in content.header], rows, left=content.left))


def _cell(cell: str) -> str:
    text = escape_markdown(cell)
    return f"**{text}**" if isinstance(cell, Strong) and text else text


def _fenced(text: str) -> str:
    """A block of code, fenced by more backticks than are in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return _Markdown(f"{fence}\n{text}\n{fence}")


def _path(picture: Picture) -> str:
    return _Markdown(f"{picture.file.parent.name}/{picture.file.name}")
