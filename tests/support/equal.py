"""Weights, and tensors that are the same bit for bit."""

import torch

__all__ = ["assert_equal", "changed", "weights"]


def weights(model):
    """Name → a copy of the parameter or buffer."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def changed(model, start):
    """The names of what is no longer as in `start`, earlier weights of the model."""
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, start[name])}


def assert_equal(found, expected):
    """One tensor is the other, or all under the same keys are: in value, shape and dtype."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
