"""Runs that go on in weights of another dtype than they began in."""

import copy

import pytest
import torch
from torch import nn

from ftp_hf import FTPAdamW
from ftp_hf.optim.rounding import MASTER


def make(dtype, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).to(dtype)
    return model, FTPAdamW(model.named_parameters(), lr=1e-2, **options)


def train(model, optimizer, steps=4):
    data = torch.randn(32, 16, generator=torch.Generator().manual_seed(1)).to(model[0].weight.dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        model(data).square().mean().backward()
        optimizer.step()


def largest_row(parameter, anchor):
    return (parameter.detach().double() - anchor.double()).reshape(len(parameter), -1).abs().sum(dim=1).max().item()


def assert_that_radii_are_of_the_weights(model, optimizer):
    anchors = optimizer.anchors()
    for name, radius in optimizer.radii().items():
        parameter = model.get_parameter(name)
        rows = parameter if parameter.ndim > 1 else parameter[None]
        anchor = anchors[name] if parameter.ndim > 1 else anchors[name][None]
        assert radius.deviation == pytest.approx(largest_row(rows, anchor), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"stochastic_rounding": True}])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_bfloat16_run_goes_on_in_float32_from_its_masters(options, steps):
    model, optimizer = make(torch.bfloat16, **options)
    train(model, optimizer, steps)
    wide, other = make(torch.float32, **options)
    wide.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for narrow, parameter in zip(model.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(parameter, optimizer.state[narrow].get(MASTER, narrow.float()), rtol=0, atol=0)
        assert MASTER not in other.state[parameter]
    before = optimizer.anchors()
    for name, anchor in other.anchors().items():
        torch.testing.assert_close(anchor, before[name].float())
    train(wide, other)
    assert_that_radii_are_of_the_weights(wide, other)


@pytest.mark.parametrize("fused", [False, True])
def test_a_model_is_widened_between_steps(fused):
    model, optimizer = make(torch.bfloat16, fused=fused)
    train(model, optimizer)
    train(model.float(), optimizer)
    assert not any(MASTER in state for state in optimizer.state.values())
    assert_that_radii_are_of_the_weights(model, optimizer)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
@pytest.mark.parametrize("fused", [False, True])
def test_states_of_wider_and_narrower_weights_load(dtypes, fused):
    model, optimizer = make(dtypes[0], fused=fused)
    train(model, optimizer)
    other, loaded = make(dtypes[1], fused=fused)
    other.load_state_dict(model.state_dict())
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(other, loaded)
    assert_that_radii_are_of_the_weights(other, loaded)
