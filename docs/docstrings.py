"""An extension of griffe: docstrings in the Hugging Face form, as the reference shows them."""

import re

import griffe

_TYPE = re.compile(r"^( *\w+(?:, \*{0,2}\w+)*) \((.*)\):(?= )", re.MULTILINE)
_RETURNED = re.compile(r"^( +)((?:`[^`]+`(?: or )?)+): ", re.MULTILINE)
_CLASS = re.compile(r"\[`~?([^`]+)`\](?!\(|\[)")


class HuggingFaceDocstrings(griffe.Extension):
    """Takes the marks of code and stress out of types, which are shown as code, and the brackets off names of classes."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            obj.docstring.value = _plain(obj.docstring.value)


def _plain(docstring: str) -> str:
    docstring = _CLASS.sub(r"`\1`", docstring)
    docstring = _TYPE.sub(lambda match: f"{match[1]} ({re.sub('[`*]', '', match[2])}):", docstring)
    return _RETURNED.sub(lambda match: f"{match[1]}{match[2].replace('`', '')}: ", docstring)
