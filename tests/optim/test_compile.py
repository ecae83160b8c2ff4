"""Beside torch.compile: of the model, and of the step."""

import copy

import pytest
import torch

from ftp_hf import FTP, FTPAdamW
from tests.support.equal import assert_equal

MAKE = {
    "FTPAdamW": lambda model: FTPAdamW(model.named_parameters(), lr=1e-2, exclude=["2.*"]),
    "FTP": lambda model: FTP(torch.optim.RAdam(model.named_parameters(), lr=1e-2), exclude=["2.*"]),
}


def fit(model, optimizer, step):
    for x in torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(1)):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        step()
    return [parameter.detach() for parameter in model.parameters()], optimizer.radii()


@pytest.fixture
def model():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_compiled_step_is_the_step_bit_for_bit(make, model):
    twin = copy.deepcopy(model)
    optimizer, other = make(model), make(twin)
    weights, radii = fit(model, optimizer, optimizer.step)
    compiled_weights, compiled_radii = fit(twin, other, torch.compile(other.step))
    assert compiled_radii == radii
    assert_equal(compiled_weights, weights)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_compiled_model_trains_as_the_model_does(make, model):
    twin = torch.compile(copy.deepcopy(model), backend="aot_eager")
    optimizer, other = make(model), make(twin)
    weights, radii = fit(model, optimizer, optimizer.step)
    compiled_weights, compiled_radii = fit(twin, other, other.step)
    assert compiled_radii.keys() == radii.keys() == {"0.weight", "0.bias"}
    for a, b in zip(compiled_weights, weights, strict=True):
        torch.testing.assert_close(a, b)
