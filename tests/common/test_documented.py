"""Help texts that are taken from the docstrings of dataclasses."""

import dataclasses
import inspect
import textwrap

import pytest

from ftp_hf.common.documented import with_help
from ftp_hf.tasks.speech import SpeechOptions


@pytest.mark.parametrize("indented", [True, False])
def test_help_is_what_the_docstring_says(indented):
    # From Python 3.13 on docstrings are kept without their common indentation.
    kept = textwrap.indent(f"\n{inspect.cleandoc(SpeechOptions.__doc__)}", "    " * indented)

    @dataclasses.dataclass
    class Options:
        __doc__ = kept

        language: str | None = None
        max_seconds: float | None = dataclasses.field(default=None, metadata={"help": "Its own."})
        unsaid: int = 0

    helps = {option.name: option.metadata.get("help") for option in dataclasses.fields(with_help(Options))}
    said = 'The language that is spoken, such as `"german"`, for a recogniser of many languages. By default it finds out by itself.'
    assert helps == {"language": said, "max_seconds": "Its own.", "unsaid": None}
