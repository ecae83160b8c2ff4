"""What happens to files on a disk."""

import os

__all__ = ["DAMAGED", "cut", "flip_byte"]

DAMAGED = (b"", b"\xff\x00", b"[]", b"null", b'{"method": "pl')
"""What a file of JSON may hold after a full disk or a power cut, or by another's hand."""


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)
