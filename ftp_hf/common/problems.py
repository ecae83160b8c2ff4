"""
What is wrong with what a person asked for: gathered, so that all of it is said at once.

An error about several things has the first in its message, and the others as its notes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

__all__ = ["Problems", "did_you_mean", "number_in_yaml"]


class Problems(list[str]):
    """Problems, a line each."""

    missing_file = False
    """Whether the first is a file that is not there."""

    @contextmanager
    def gathered(self, where: str = "") -> Iterator[None]:
        """Keep what a `ValueError` or a `FileNotFoundError` says, after `where`, and go on after the block."""
        try:
            yield
        except (FileNotFoundError, ValueError) as error:
            self.missing_file |= not self and isinstance(error, FileNotFoundError)
            self += [f"{where}{problem}" for problem in (str(error), *getattr(error, "__notes__", ()))]

    def raise_all(self) -> None:
        """Raise an error if there are any: a `FileNotFoundError` if the first is one, else a `ValueError`."""
        if self:
            error = (FileNotFoundError if self.missing_file else ValueError)(self[0])
            error.__notes__ = self[1:]  # what add_note makes, which Python 3.10 does not have
            raise error


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """What to add to an error about an unknown word: the known one that is closest, if one is close."""
    close = get_close_matches(str(word), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def number_in_yaml(value: object) -> str:
    """What to add to an error about a value that must be a number: how YAML reads one, where it is a text."""
    return "; in YAML 1e-3 is a text, 1.0e-3 a number" if isinstance(value, str) else ""
