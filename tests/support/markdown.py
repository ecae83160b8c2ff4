"""Reading Markdown back: sections and tables."""

import re

__all__ = ["cells", "section"]


def section(text, title):
    return re.split(r"\n#+ ", text.partition(f"## {title}\n")[2])[0]


def cells(table):
    """The rows of a Markdown table, as lists of their cells."""
    lines = [line for line in table.replace("\N{NO-BREAK SPACE}", " ").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
