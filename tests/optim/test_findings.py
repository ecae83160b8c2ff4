"""What a step found out is used by the next ones, as long as it is true."""

import copy
import gc
import weakref

import pytest
import torch

from ftp_hf import FTPAdamW
from ftp_hf.optim import findings
from ftp_hf.optim.participants import Participants
from tests.support.equal import assert_equal
from tests.support.problems import make_gradients, make_parameters


def step(optimizer, parameters, gradient):
    for name, parameter in parameters.items():
        values = gradient[name].flatten()[: parameter.numel()]
        parameter.grad = values.view(parameter.shape).clone()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_parameters_are_looked_through_once(dtype, monkeypatch):
    calls = []
    look_through = Participants.with_gradient
    monkeypatch.setattr(Participants, "with_gradient", lambda self: calls.append(1) or look_through(self))
    parameters = make_parameters(dtype)
    optimizer = FTPAdamW(parameters.items(), fused=True)
    for gradient in make_gradients(parameters, 8):
        step(optimizer, parameters, gradient)
    # At the first step there was no state yet, and the second might have been another one's like.
    assert len(calls) == 3


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


@pytest.mark.parametrize("change", ["load_state_dict", "release_weights"])
def test_a_state_that_is_replaced_is_freed(change):
    parameters = make_parameters(torch.bfloat16)
    optimizer = FTPAdamW(parameters.items(), fused=True)
    for gradient in make_gradients(parameters, 5):
        step(optimizer, parameters, gradient)
    held = [weakref.ref(state["master"]) for state in optimizer.state.values()]
    if change == "load_state_dict":
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    else:
        optimizer.release_weights()
    gc.collect()
    assert [each() for each in held] == [None] * len(held)


def test_nothing_is_kept_of_weights_without_masters():
    parameters = make_parameters(torch.bfloat16)
    optimizer = FTPAdamW(parameters.items(), fused=True, stochastic_rounding=True)
    for gradient in make_gradients(parameters, 5):
        step(optimizer, parameters, gradient)
        assert optimizer._findings is None


def test_a_step_that_fails_leaves_no_gradients(monkeypatch):
    parameters = make_parameters(torch.float32)
    optimizer = FTPAdamW(parameters.items(), fused=True)
    *gradients, last = make_gradients(parameters, 5)
    for gradient in gradients:
        step(optimizer, parameters, gradient)
    monkeypatch.setattr(FTPAdamW, "_unconstrained_step", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step(optimizer, parameters, last)
    held = [weakref.ref(parameter.grad) for parameter in parameters.values()]
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


def view_otherwise(optimizer, weight, view):
    """Other views of the same memory: of a weight, and of its state."""
    for tensor in (*(value for value in optimizer.state[weight].values() if value.shape == weight.shape), weight):
        tensor.data = view(tensor.detach())


def turn(optimizer, parameters):
    view_otherwise(optimizer, parameters["proj.weight"], torch.t)


def look_at_a_part(optimizer, parameters):
    view_otherwise(optimizer, parameters["proj.weight"], lambda values: values[: len(values) // 2])


def stand_in_for_another(optimizer, parameters):
    """Another parameter in the same memory takes the place of one, and has its gradients from now on."""
    old = parameters["proj.weight"]
    new = parameters["proj.weight"] = torch.nn.Parameter(old.data)
    optimizer.state[new] = optimizer.state.pop(old)
    places = optimizer.param_groups[0]["params"]
    places[[each is old for each in places].index(True)] = new
    old.grad = None


def exclude(optimizer, _):
    optimizer.param_groups[0]["exclude"] = ("proj.weight",)


def replace_the_state(optimizer, _):
    for state in optimizer.state.values():
        state.update({key: value.clone() for key, value in state.items()})


def move_the_state(optimizer, _):
    for state in optimizer.state.values():
        for value in state.values():
            value.data = value.detach().clone()


def offload_the_state(optimizer, _):
    for state in optimizer.state.values():
        for value in state.values():
            kept = value.detach().clone()
            value.untyped_storage().resize_(0)
            room = torch.empty(1 << 16)  # where it was
            value.untyped_storage().resize_(kept.untyped_storage().nbytes())
            value.copy_(kept)
            del room


def name_other_rows(optimizer, parameters):
    optimizer.fill_in(parameters, row_dims={parameters["proj.weight"]: (1,)})


def give_up_masters(optimizer, _):
    optimizer.release_weights()


CHANGES = (
    load_own_state,
    move_weights,
    lay_out_otherwise,
    turn,
    look_at_a_part,
    stand_in_for_another,
    exclude,
    replace_the_state,
    move_the_state,
    offload_the_state,
    name_other_rows,
    give_up_masters,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_between_steps_is_noticed(change, dtype, monkeypatch):
    results = []
    for looks_anew in (False, True):
        if looks_anew:
            monkeypatch.setattr(findings, "_signature", lambda *_: None)
        parameters = make_parameters(dtype)
        optimizer = FTPAdamW(parameters.items(), lr=1e-2, fused=True)
        for number, gradient in enumerate(make_gradients(parameters, 12)):
            if number == 6:
                change(optimizer, parameters)
            step(optimizer, parameters, gradient)
        results.append((parameters, optimizer.radii()))
    (ours, radii), (theirs, anew) = results
    assert radii == anew
    assert_equal(ours, theirs)
