"""
Read the weights of a CTranslate2 model (`model.bin`) without CTranslate2.

Little-endian throughout. A string is its length with the closing zero (uint16), its bytes and the zero.

    version (uint32), name of the specification (string), its revision (uint32)
    number of variables (uint32), and for each: name (string), rank (uint8), dimensions (uint32 each),
        type (uint8), number of bytes (uint32), the bytes
    number of aliases (uint32), and for each: alias, name of the variable (strings)
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_variables"]

_VERSION = 6
_TYPES = [np.dtype(name) for name in ("<f4", "i1", "<i2", "<i4", "<f2")]


def read_variables(path: Path) -> dict[str, NDArray[Any]]:
    """
    All variables of a model, by name; scalars are options of the architecture.

    Args:
        path (`Path`): of a file of version 6.

    Returns:
        `dict[str, np.ndarray]`: read-only, in the types and shapes of the file. An alias is the array it stands for.

    Raises:
        ValueError: the file has another version, or does not end where it should.
    """
    reader = _Reader(path.read_bytes())
    try:
        version = reader.number("I")
        if version != _VERSION:
            raise ValueError(f"{path} is no CTranslate2 model of version {_VERSION}, but of {version}")
        reader.text()
        reader.number("I")
        variables = {reader.text(): reader.array() for _ in range(reader.number("I"))}
        for _ in range(reader.number("I")):
            alias = reader.text()
            variables[alias] = variables[reader.text()]
    except struct.error as error:
        raise ValueError(f"{path} is cut off: {error}") from error
    if reader.rest:
        raise ValueError(f"{path} goes on for {reader.rest} bytes after its last variable")
    return variables


class _Reader:
    """A file from its beginning on."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    @property
    def rest(self) -> int:
        return len(self._content) - self._place

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self._content, self._place)
        self._place += struct.calcsize(f"<{kind}")
        return int(value)

    def text(self) -> str:
        return self._bytes(self.number("H"))[:-1].decode()

    def array(self) -> NDArray[Any]:
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype = _TYPES[self.number("B")]
        return np.frombuffer(self._bytes(self.number("I")), dtype).reshape(shape)

    def _bytes(self, count: int) -> bytes:
        if count > self.rest:
            raise struct.error(f"{count} bytes are announced, {self.rest} are left")
        self._place += count
        return self._content[self._place - count : self._place]
