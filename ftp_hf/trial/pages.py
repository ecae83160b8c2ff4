"""The pages of a trial in its language, and the part of them that figures are written into."""

import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ftp_hf.common.figures import table

__all__ = [
    "CHECKLIST",
    "COMPARISON",
    "CONFIG",
    "DECISION",
    "LANGUAGES",
    "RULES",
    "language_of",
    "render",
    "with_figures",
]

LANGUAGES = ("en", "ja")
CONFIG, RULES, CHECKLIST, DECISION = "config.yaml", "rules.yaml", "checklist.md", "decision.md"
COMPARISON = "comparison"
"""The folder of the comparison, in that of the trial."""

_START = "<!-- ftp-hf trial report ({}): what stands from here to the end mark is replaced -->"
_END = "<!-- end mark -->"


def render(language: str, page: str, **facts: Any) -> str:
    """A page of a language."""
    environment = Environment(  # noqa: S701 - of Markdown and YAML, which are not HTML
        loader=FileSystemLoader(Path(__file__).parent / language),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"start": _START.format(language), "end": _END}
    environment.filters["quote"] = lambda folder: shlex.quote(str(folder))
    environment.filters["table"] = lambda rows, header: table(header, rows, left=len(header))
    return environment.get_template(page).render(facts)


def language_of(page: str) -> str:
    """
    The language of a page for a decision.

    Raises:
        ValueError: its marks are gone.
    """
    return next(language for language in LANGUAGES if _START.format(language) in _checked(page))


def with_figures(page: str, figures: str) -> str:
    """A page for a decision with other figures between its marks; what a person wrote around them stays."""
    start = _START.format(language_of(page))
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(_END)
    return f"{before}{start}\n\n{figures.strip()}\n\n{_END}{after}"


def _checked(page: str) -> str:
    starts = [start for language in LANGUAGES if (start := _START.format(language)) in page]
    if len(starts) != 1 or _END not in page.partition(starts[0])[2]:
        raise ValueError(
            f"{DECISION} has lost the marks that figures go between: put {_START.format(LANGUAGES[0])!r} and {_END!r} back, or "
            "delete the file and take the one of a new trial"
        )
    return page
