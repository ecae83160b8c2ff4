"""What wrapped optimizers keep for themselves: state from their construction on, and state in dicts, lists and dtypes of their choice."""

import copy
import functools
from collections import deque

import pytest
import torch
from accelerate import Accelerator

from ftp_hf import FTP, FTPAdamW
from tests.support.equal import assert_equal
from tests.support.problems import (
    assert_goes_on_alike,
    assert_same_run,
    clone,
    make_gradients,
    make_parameters,
    through_torch_save,
    train,
)


class Nesting(torch.optim.Optimizer):
    """Keeps the momenta of its betas in a dict, its last gradients in a deque and a list, all in float32."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1e-3})

    def step(self):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._step(parameter, self.state[parameter], group["lr"])

    def _step(self, parameter, state, lr):
        grad = parameter.grad.float()
        if not state:
            state["kind"] = "nesting"
            state["momenta"] = {beta: torch.zeros_like(grad) for beta in (0.0, 0.9, 0.99)}
            state["last"] = deque(maxlen=2)
            state["pair"] = [grad.clone(), (grad.clone(), 3)]
        assert state["kind"] == "nesting"
        for beta, momentum in state["momenta"].items():
            momentum.mul_(beta).add_(grad)
            parameter.sub_(momentum, alpha=lr)
        state["last"].append(grad.clone())
        assert len(state["last"]) <= 2
        state["pair"][0].lerp_(grad, 0.1)
        parameter.sub_(state["pair"][0] + state["pair"][1][0] + sum(state["last"]), alpha=lr)


class Coarse(torch.optim.Optimizer):
    """SGD whose momenta are in bfloat16, whatever the weights are in."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1e-3})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("momentum", torch.zeros_like(parameter, dtype=torch.bfloat16))
                state["momentum"].mul_(0.9).add_(parameter.grad)
                parameter.sub_(state["momentum"], alpha=group["lr"])


def adagrad(parameters, **options):
    return FTP(torch.optim.Adagrad(parameters.items(), lr=1e-2, initial_accumulator_value=0.1), **options)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors(part)]
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, (list, tuple, deque)) else []


@pytest.mark.usefixtures("_accelerate_as_it_was")
def test_accelerate_may_load_the_state_that_an_optimizer_is_made_with():
    parameters = make_parameters(torch.float32)
    twin, gradients = clone(parameters), make_gradients(parameters, 20)
    prepared = Accelerator(cpu=True).prepare(adagrad(parameters, exclude=["head.*"]))
    plain = adagrad(twin, exclude=["head.*"])
    train(prepared, parameters, gradients)
    train(plain, twin, gradients)
    assert_same_run(plain, twin, prepared.optimizer, parameters)


def test_a_parameter_that_took_no_step_resumes_with_the_state_it_was_made_with():
    parameters = make_parameters(torch.float32)
    gradients = make_gradients(parameters, 20)
    for gradient in gradients[:10]:
        del gradient["proj.weight"]
    optimizer = adagrad(parameters)
    train(optimizer, parameters, gradients[:10])
    resumed = clone(parameters)
    second = adagrad(resumed)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[10:])


def test_trained_state_of_an_optimizer_without_projection_is_refused_and_changes_nothing():
    parameters = make_parameters(torch.float32)
    plain = torch.optim.Adagrad(clone(parameters).items(), lr=1e-2)
    train(plain, dict(zip(parameters, plain.param_groups[0]["params"], strict=True)), make_gradients(parameters, 1))
    optimizer = adagrad(parameters)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="no anchors for 6 projected parameters"):
        optimizer.load_state_dict(plain.state_dict())
    assert str(optimizer.state_dict()) == str(before)


def test_state_made_with_bfloat16_weights_is_trained_in_float32():
    narrow = {name: torch.nn.Parameter(p.detach().bfloat16()) for name, p in make_parameters(torch.float32).items()}
    wide = {name: torch.nn.Parameter(p.detach().float()) for name, p in narrow.items()}
    gradients = make_gradients(narrow, 20)
    # 0.5 is exact in bfloat16: nothing but what the steps add to it could be rounded.
    optimizer, reference = (
        FTP(torch.optim.Adagrad(p.items(), lr=1e-2, initial_accumulator_value=0.5)) for p in (narrow, wide)
    )
    for gradient in gradients:
        train(optimizer, narrow, [gradient])
        train(reference, wide, [{name: g.float() for name, g in gradient.items()}])
        assert all(torch.equal(p, wide[name].bfloat16()) for name, p in narrow.items())


@pytest.mark.parametrize("implementation", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
def test_bfloat16_state_of_a_plain_run_goes_on_with_anchors(implementation):
    narrow = {name: torch.nn.Parameter(p.detach().bfloat16()) for name, p in make_parameters(torch.float32).items()}
    anchors = {name: parameter.detach().clone() for name, parameter in narrow.items()}
    gradients = make_gradients(narrow, 10)
    plain = torch.optim.AdamW(narrow.items(), **implementation)
    train(plain, narrow, gradients[:5])
    optimizer = FTPAdamW(narrow.items(), anchors=anchors, **implementation)
    optimizer.load_state_dict(plain.state_dict())
    train(optimizer, narrow, gradients[5:])
    assert all(optimizer.state[p]["exp_avg_sq"].dtype == torch.float32 for p in narrow.values())
    assert all(torch.equal(anchor.bfloat16(), anchors[name]) for name, anchor in optimizer.anchors().items())


@pytest.mark.parametrize(
    "through",
    [copy.deepcopy, functools.partial(through_torch_save, weights_only=False)],
    ids=["deepcopy", "torch.save"],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("own", [Nesting, Coarse])
def test_state_of_their_own_resumes_bit_for_bit(own, dtype, through):
    parameters = {name: torch.nn.Parameter(p.detach().to(dtype)) for name, p in make_parameters(torch.float32).items()}
    gradients = make_gradients(parameters, 20)
    optimizer = FTP(own(parameters.items()))
    train(optimizer, parameters, gradients[:10])
    resumed = clone(parameters)
    second = FTP(own(resumed.items()))
    second.load_state_dict(through(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[10:])
    for name, parameter in parameters.items():
        assert_equal(tensors(optimizer.state[parameter]), tensors(second.state[resumed[name]]))
