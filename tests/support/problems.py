"""Small problems that the optimizer tests share: parameters of every kind of shape, and gradients to feed them."""

import io

import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW, LowRankProduct, LowRankUpdate
from tests.support.equal import assert_equal

SHAPES = {
    "scale": (),
    "norm.weight": (5,),
    "proj.weight": (6, 5),
    "conv.weight": (4, 3, 2, 2),
    "conv1d.weight": (5, 7),
    "head.weight": (3, 6),
}

LOOP = {"foreach": False, "fused": False}
IMPLEMENTATIONS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": LOOP}

PROJECTED = {
    "FTPAdamW-fused": lambda params, **ours: FTPAdamW(params, lr=1e-2, fused=True, **ours),
    "FTPAdamW-foreach": lambda params, **ours: FTPAdamW(params, lr=1e-2, weight_decay=0.1, foreach=True, **ours),
    "FTPAdamW-amsgrad": lambda params, **ours: FTPAdamW(params, lr=1e-2, amsgrad=True, **LOOP, **ours),
    "FTPSGD": lambda params, **ours: FTPSGD(params, lr=1e-2, **ours),
    "FTPSGD-nesterov": lambda params, **ours: FTPSGD(params, lr=1e-2, momentum=0.9, nesterov=True, **ours),
    "FTP-AdamW": lambda params, **ours: FTP(torch.optim.AdamW(params, lr=1e-2), **ours),
    "FTP-RAdam": lambda params, **ours: FTP(torch.optim.RAdam(params, lr=1e-2), **ours),
    "FTP-Adafactor": lambda params, **ours: FTP(torch.optim.Adafactor(params, lr=1e-2), **ours),
}


def make_parameters(dtype=torch.float64, seed=0):
    """Name → parameter, one of every shape."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for name, shape in SHAPES.items()
    }


UPDATE = (LowRankUpdate("w", (LowRankProduct("b", "a"),)),)
"""That of the factors that [`make_factors`] makes."""


def make_factors(dtype):
    """Name → factor of a low-rank update, which is zero as yet."""
    generator = torch.Generator().manual_seed(0)
    factors = {"b": torch.zeros(5, 3), "a": torch.randn(3, 6, generator=generator)}
    return {name: torch.nn.Parameter(factor.to(dtype)) for name, factor in factors.items()}


def make_gradients(parameters, steps, seed=1):
    """
    For each step name → gradient: a direction that turns round half-way, so that radii grow and shrink, plus noise.
    """
    generator = torch.Generator().manual_seed(seed)
    like = {name: (p.shape, p.dtype) for name, p in parameters.items()}
    randn = {n: lambda n=n: torch.randn(like[n][0], generator=generator, dtype=like[n][1]) for n in like}
    direction = {name: randn[name]() for name in like}
    sign = [1.0 if step < steps / 2 else -1.0 for step in range(steps)]
    return [{name: s * direction[name] + 0.3 * randn[name]() for name in like} for s in sign]


def train(optimizer, parameters, gradients):
    """Feed the gradients, one step for each entry; a name that is missing, or None, has no gradient at that step."""
    for gradient in gradients:
        for name, parameter in parameters.items():
            value = gradient.get(name)
            parameter.grad = None if value is None else value.clone()
        optimizer.step()


def values(parameters):
    """Name → a copy of the weights, in numpy."""
    return {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}


def clone(parameters):
    """Name → a new parameter with the same weights."""
    return {name: torch.nn.Parameter(parameter.detach().clone()) for name, parameter in parameters.items()}


def through_torch_save(state, *, weights_only=True):
    """What is read of the file that a state is written to."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


def assert_same_run(optimizer, parameters, other, others):
    """Two optimizers have come to the same weights and radii, bit for bit."""
    assert_equal(others, parameters)
    assert other.radii() == optimizer.radii()


def assert_goes_on_alike(optimizer, parameters, other, others, gradients):
    """Two optimizers that are fed the same gradients come to the same, bit for bit."""
    train(optimizer, parameters, gradients)
    train(other, others, gradients)
    assert_same_run(optimizer, parameters, other, others)


def assert_told_as_it_is(optimizer, parameters):
    """The deviations that `radii()` tells are those of the parameters from `anchors()`."""
    anchors, radii = optimizer.anchors(), optimizer.radii()
    for name, anchor in anchors.items():
        moved = (parameters[name].detach().double() - anchor.double()).abs()
        distance = moved.flatten(1).sum(1).max() if moved.ndim > 1 else moved.sum()
        assert radii[name].deviation == pytest.approx(distance.item(), rel=1e-4, abs=1e-7), name
