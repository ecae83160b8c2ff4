"""What a step found out is used by the next ones, as long as it is true."""

import gc
import weakref

import pytest
import torch

from ftp_hf import FTPAdamW
from ftp_hf.optim import steady
from ftp_hf.optim.participants import Participants
from tests.support.problems import make_gradients, make_parameters


def step(optimizer, parameters, gradient):
    for name, parameter in parameters.items():
        parameter.grad = gradient[name].clone()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_parameters_are_looked_through_once(dtype, monkeypatch):
    calls = []
    look_through = Participants.with_gradient
    monkeypatch.setattr(Participants, "with_gradient", lambda self, of: calls.append(1) or look_through(self, of))
    parameters = make_parameters(dtype)
    optimizer = FTPAdamW(parameters.items(), fused=True)
    for gradient in make_gradients(parameters, 8):
        step(optimizer, parameters, gradient)
    # At the first step there was no state yet.
    assert len(calls) == 2


def test_gradients_are_freed_between_steps():
    parameters = make_parameters(torch.float32)
    optimizer = FTPAdamW(parameters.items(), fused=True)
    for gradient in make_gradients(parameters, 4):
        for name, parameter in parameters.items():
            parameter.grad = gradient[name].clone()
        held = [weakref.ref(parameter.grad) for parameter in parameters.values()]
        optimizer.step()
        optimizer.zero_grad()
        gc.collect()
        assert [each() for each in held] == [None] * len(held)


def load_own_state(optimizer, _):
    optimizer.load_state_dict(optimizer.state_dict())


def move_weights(_, parameters):
    for parameter in parameters.values():
        parameter.data = parameter.detach().clone()


def lay_out_otherwise(_, parameters):
    parameters["proj.weight"].data = parameters["proj.weight"].detach().t().contiguous().t()


def exclude(optimizer, _):
    optimizer.param_groups[0]["exclude"] = ("proj.weight",)


def take_the_buffers_away(optimizer, _):
    for state in optimizer.state.values():
        state["anchor_or_direction"] = state["anchor_or_direction"].clone()
        state["exp_avg"] = state["exp_avg"].clone()


def give_up_masters(optimizer, _):
    optimizer.release_weights()


CHANGES = (
    load_own_state,
    move_weights,
    lay_out_otherwise,
    exclude,
    take_the_buffers_away,
    give_up_masters,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_between_steps_is_noticed(change, dtype, monkeypatch):
    results = []
    for looks_anew in (False, True):
        if looks_anew:
            monkeypatch.setattr(steady, "_signature", lambda *_: None)
        parameters = make_parameters(dtype)
        optimizer = FTPAdamW(parameters.items(), lr=1e-2, fused=True)
        for number, gradient in enumerate(make_gradients(parameters, 12)):
            if number == 6:
                change(optimizer, parameters)
            step(optimizer, parameters, gradient)
        results.append((parameters, optimizer.radii()))
    (ours, radii), (theirs, anew) = results
    assert radii == anew
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in ours.items())
