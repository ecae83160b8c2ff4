"""What images, texts and sounds share: severities, strengths, and a generator that depends on nothing but its seed."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

__all__ = ["SEVERITIES", "check_kind", "check_severity", "generator", "geometric"]

SEVERITIES = range(1, 6)
"""1 (slight) to 5 (hard)."""


def geometric(first: float, last: float, place: float) -> float:
    """A point on the geometric path from `first` (at `place` 0) to `last` (at 1); both are positive."""
    return float(first * (last / first) ** place)


def generator(seed: int, kind: str, content: bytes) -> np.random.RandomState:
    """
    The random numbers of one corruption of one value (its `content`). NumPy keeps their stream from version to version, as it
    does not for `Generator`.
    """
    digest = blake2b(f"{seed} {kind} ".encode() + content, digest_size=16).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def check_kind(kind: str, allowed: Iterable[str]) -> None:
    """Raise if there is no such corruption."""
    if kind not in allowed:
        raise ValueError(f"kind={kind!r} is no corruption of this kind of data; choose one of {', '.join(allowed)}")


def check_severity(severity: int) -> None:
    """Raise if there is no such severity."""
    if severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r} must be a whole number from {SEVERITIES[0]} to {SEVERITIES[-1]}")
