"""torch's default dtype is that of new parameters alone: steps, radii and distances are the same under each."""

import pytest
import torch

from ftp_hf import FTPAdamW
from ftp_hf.distance import model_distance
from ftp_hf.optim.restart import restart_radii
from tests.support.equal import assert_equal
from tests.support.problems import PROJECTED, UPDATE, make_factors, make_gradients, make_parameters, train

OTHERS = [torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _default_dtype_as_it_was():
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def trained(make, dtype, default):
    parameters = make_parameters(dtype)
    gradients = make_gradients(parameters, 12)
    torch.set_default_dtype(default)
    optimizer = make(parameters.items(), exclude=["head.*"])
    train(optimizer, parameters, gradients[:8])
    restart_radii(optimizer)
    train(optimizer, parameters, gradients[8:])
    return parameters, optimizer.radii()


@pytest.mark.parametrize("default", OTHERS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_steps_are_the_same_under_each(make, dtype, default):
    usual, usual_radii = trained(make, dtype, torch.float32)
    other, radii = trained(make, dtype, default)
    assert_equal(other, usual)
    assert radii == usual_radii


@pytest.mark.parametrize("default", OTHERS, ids=str)
@pytest.mark.parametrize("options", [{"stochastic_rounding": True}, {"radius_share": 0.1, "fused": True}], ids=str)
def test_so_are_those_that_are_rounded_or_learn_by_a_share(options, default):
    def make(parameters, **ours):
        return FTPAdamW(parameters, lr=1e-2, **options, **ours)

    usual, usual_radii = trained(make, torch.bfloat16, torch.float32)
    other, radii = trained(make, torch.bfloat16, default)
    assert_equal(other, usual)
    assert radii == usual_radii


@pytest.mark.parametrize("default", OTHERS, ids=str)
def test_so_are_those_of_low_rank_updates(default):
    def of(default):
        torch.set_default_dtype(torch.float32)
        parameters = make_factors(torch.float32)
        gradients = make_gradients(parameters, 12)
        torch.set_default_dtype(default)
        optimizer = FTPAdamW(parameters.items(), lr=1e-2, low_rank=UPDATE, radius_share=0.1)
        train(optimizer, parameters, gradients)
        return parameters, optimizer.radii()

    (usual, usual_radii), (other, radii) = of(torch.float32), of(default)
    assert_equal(other, usual)
    assert radii == usual_radii


@pytest.mark.parametrize("default", OTHERS, ids=str)
def test_so_are_distances(default):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5))
    anchors = {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}
    usual = model_distance(model, anchors)
    torch.set_default_dtype(default)
    assert model_distance(model, anchors) == usual
