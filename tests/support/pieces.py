"""Steps over parameters a few at a time, however small these are."""

import pytest

from ftp_hf.optim.unconstrained import MOVE_EACH_ALONE

EVERYTHING = 2**22
"""More elements than the tests' parameters have."""

each_alone = pytest.mark.parametrize(
    "optimizer", sorted(MOVE_EACH_ALONE, key=lambda each: each.__name__), ids=lambda each: each.__name__
)


def cut_into_pieces(monkeypatch, elements=1):
    """Have steps be taken over so many elements at a time, or over a larger parameter alone."""
    monkeypatch.setattr("ftp_hf.optim.masters._PIECE_ELEMENTS", elements)
    monkeypatch.setattr("ftp_hf.optim.masters._MOST_PIECES", EVERYTHING // elements)
