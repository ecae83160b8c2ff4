"""Steps over parameters a few at a time, however small these are."""

import pytest
import torch

from ftp_hf.optim.unconstrained import MOVE_EACH_ALONE

EVERYTHING = 2**22
"""More elements than the tests' parameters have."""


class ClippedSGD(torch.optim.SGD):
    """How far it moves a parameter depends on the gradients of all."""

    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_([each for group in self.param_groups for each in group["params"]], 1.0)
        return super().step(closure)


every_optimizer = pytest.mark.parametrize(
    "optimizer",
    [*sorted(MOVE_EACH_ALONE, key=lambda each: each.__name__), ClippedSGD],
    ids=lambda each: each.__name__,
)


def cut_into_pieces(monkeypatch, elements=1):
    """Have steps be taken over so many elements at a time, or over a larger parameter alone."""
    monkeypatch.setattr("ftp_hf.optim.masters._PIECE_ELEMENTS", elements)
    monkeypatch.setattr("ftp_hf.optim.masters._MOST_PIECES", EVERYTHING // elements)
