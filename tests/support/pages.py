"""The pages of the documentation: their code and their links."""

import re
import shlex
from pathlib import Path

__all__ = ["PAGES", "ROOT", "blocks", "commands"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    """The fenced blocks of a language, in their order."""
    return [text for name, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page):
    """Every command of its bash blocks, as words, without comments and redirections; loops are read line by line."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" && |; (?=do |done)", line):
                words = shlex.split(part.removeprefix("do ").strip(), comments=True)
                if words:
                    found.append(words[: words.index(">")] if ">" in words else words)
    return found
