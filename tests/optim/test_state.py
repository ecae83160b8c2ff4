"""Saving, loading, copying; hooks, schedulers, Accelerate, distributed checkpoints, gradient scaling."""

import copy
import inspect
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from ftp_hf import FTP, FTPSGD, FTPAdamW
from ftp_hf.optim.restart import restart_radii
from tests.support.equal import assert_equal
from tests.support.problems import (
    IMPLEMENTATIONS,
    PROJECTED,
    UPDATE,
    assert_goes_on_alike,
    assert_same_run,
    clone,
    make_factors,
    make_gradients,
    make_parameters,
    through_torch_save,
    train,
    values,
)


def release_and_grow(optimizer, parameters):
    """Other weights, which the optimizer is told of."""
    optimizer.release_weights()
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.mul_(1.5)


@pytest.fixture
def problem():
    parameters = make_parameters(torch.float32)
    return parameters, make_gradients(parameters, 40)


@pytest.mark.parametrize("through", [copy.deepcopy, through_torch_save])
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_resumed_equals_uninterrupted_bit_for_bit(make, through, problem):
    parameters, gradients = problem
    pretrained = values(parameters)
    optimizer = make(parameters.items(), kappa=0.7, transposed=["conv1d.weight"], exclude=["head.*"])
    train(optimizer, parameters, gradients[:20])
    # A new process loads the fine-tuned weights first: its anchors must nevertheless be the pre-trained ones.
    resumed = clone(parameters)
    second = make(resumed.items())
    second.load_state_dict(through(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[20:])
    assert set(second.anchors()) == set(parameters) - {"head.weight"}
    for name, anchor in second.anchors().items():
        assert np.array_equal(anchor, pretrained[name])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_copies_go_on_as_the_original_does(make, steps, copied, problem):
    parameters, gradients = problem
    anchors = {name: parameter.detach() + 0.01 for name, parameter in parameters.items()}
    optimizer = make(parameters.items(), anchors=anchors, kappa=0.7)
    train(optimizer, parameters, gradients[:steps])
    twin, second = copied((parameters, optimizer))
    assert_goes_on_alike(optimizer, parameters, second, twin, gradients[steps:])
    assert all(parameter is not twin[name] for name, parameter in parameters.items())
    assert_equal(second.anchors(), anchors)


@pytest.mark.parametrize("wrapped", [False, True], ids=["class", "FTP"])
@pytest.mark.parametrize("flatten", [False, True])
def test_distributed_checkpoint_state_dict_resumes_bit_for_bit(flatten, wrapped):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    inputs = torch.randn(20, 8, 4)

    def make(model):
        if wrapped:
            return FTP(torch.optim.AdamW(model.named_parameters(), lr=1e-2), exclude=["2.*"])
        return FTPAdamW(model.named_parameters(), lr=1e-2, exclude=["2.*"])

    def fit(model, optimizer, inputs):
        for x in inputs:
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    optimizer = make(model)
    fit(model, optimizer, inputs[:10])
    optimizer.zero_grad()
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    resumed = copy.deepcopy(model)
    second = make(resumed)
    set_optimizer_state_dict(resumed, second, state, options=options)
    fit(model, optimizer, inputs[10:])
    fit(resumed, second, inputs[10:])
    assert_equal(resumed.state_dict(), model.state_dict())
    assert second.radii() == optimizer.radii()
    assert set(second.radii()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_the_trial_step_of_distributed_checkpoints_does_not_pull_weights_to_external_anchors(make):
    # get_optimizer_state_dict() calls step() with zero gradients and lr 0 to see what a fresh optimizer's state holds.
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    before = values(dict(model.named_parameters()))
    anchors = {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}
    optimizer = make(model.named_parameters(), anchors=anchors)
    state = get_optimizer_state_dict(model, optimizer)
    assert state["state"]["0.weight"].keys() >= {"anchor_or_direction", "radius"}
    for name, parameter in model.named_parameters():
        assert np.array_equal(parameter.detach(), before[name])
        assert torch.equal(optimizer.anchors()[name], anchors[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_other_weights_can_be_loaded_once_they_are_released(make, steps, dtype):
    parameters = make_parameters(dtype)
    gradients = make_gradients(parameters, steps + 1)
    pretrained = {name: parameter.detach().float() for name, parameter in clone(parameters).items()}
    optimizer = make(parameters.items(), radius_lr=1e-3)
    train(optimizer, parameters, gradients[:steps])
    radii = {name: radius.radius for name, radius in optimizer.radii().items()}
    optimizer.release_weights()
    assert {name: radius.radius for name, radius in optimizer.radii().items()} == radii
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.mul_(1.5)
    train(optimizer, parameters, gradients[steps:])
    for name, anchor in optimizer.anchors().items():
        assert torch.equal(anchor.float(), pretrained[name]), name
    # After step 1 every radius is at its floor, which does not keep the weights from being where they were loaded to.
    if steps == 1:
        for name, parameter in parameters.items():
            torch.testing.assert_close(parameter.float(), 1.5 * pretrained[name], rtol=1e-2, atol=4e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_radii_at_the_floor_go_on_from_weights_that_were_loaded(make, dtype):
    parameters = make_parameters(dtype)
    gradients = make_gradients(parameters, 2)
    optimizer = make(parameters.items(), radius_lr=1e-3)
    train(optimizer, parameters, gradients[:1])
    release_and_grow(optimizer, parameters)
    told = optimizer.radii()
    train(optimizer, parameters, gradients[1:])
    for name, parameter in parameters.items():
        radius, _, exp_avg_sq, *_ = optimizer.state[parameter]["radius"].tolist()
        assert radius == pytest.approx(told[name].deviation, rel=0.2), name
        # ⟨g, d⟩ / ‖d‖₁ of a row is at most as large as its largest gradient.
        assert exp_avg_sq <= 1.001e-3 * gradients[1][name].double().abs().sum() ** 2, name


def handed_back(parameters, optimizer):
    optimizer.load_state_dict(optimizer.state_dict())
    return parameters, optimizer


def prepared_by_accelerate(parameters, optimizer):
    return parameters, Accelerator(cpu=True).prepare(optimizer).optimizer


@pytest.mark.usefixtures("_accelerate_as_it_was")
@pytest.mark.parametrize(
    "through",
    [lambda *run: copy.deepcopy(run), handed_back, prepared_by_accelerate],
    ids=["copy", "state", "Accelerate"],
)
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_an_optimizer_whose_weights_are_released_does_so_too_after(through, make, problem):
    parameters, gradients = problem
    optimizer = make(parameters.items())
    train(optimizer, parameters, gradients[:1])
    release_and_grow(optimizer, parameters)
    reference, as_it_is = copy.deepcopy((parameters, optimizer))
    parameters, optimizer = through(parameters, optimizer)
    assert_goes_on_alike(as_it_is, reference, optimizer, parameters, gradients[1:3])


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_a_state_that_is_loaded_with_its_weights_after_their_release_resumes_bit_for_bit(make, problem):
    parameters, gradients = problem
    optimizer = make(parameters.items(), radius_lr=1e-3)
    train(optimizer, parameters, gradients[:20])
    saved, weights = copy.deepcopy(optimizer.state_dict()), clone(parameters)
    train(optimizer, parameters, gradients[20:30])
    uninterrupted = clone(parameters)
    optimizer.release_weights()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    optimizer.load_state_dict(saved)
    train(optimizer, parameters, gradients[20:30])
    assert_equal(parameters, uninterrupted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_radius_learns_from_the_weights_that_were_loaded_after_their_release(dtype):
    anchor = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight, gradient = torch.nn.Parameter(anchor.clone()), torch.ones_like(anchor)
    optimizer = FTPSGD([("w", weight)], lr=1e-2, radius_betas=(0.0, 0.999))
    train(optimizer, {"w": weight}, [{"w": gradient}] * 5)
    optimizer.release_weights()
    with torch.no_grad():
        weight.copy_(anchor + 0.05)  # on the other side of the anchors
    train(optimizer, {"w": weight}, [{"w": gradient}])
    gradient_of_radius = optimizer.state[weight]["radius"][1].item()
    assert gradient_of_radius == pytest.approx(3.0, rel=1e-5)  # 1 of each row


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_radii_outlive_weights_that_are_not_finite(make, restart, problem):
    parameters, gradients = problem
    optimizer = make(parameters.items())
    train(optimizer, parameters, gradients[:5])
    optimizer.release_weights()
    weight = parameters["proj.weight"]
    before = weight.detach().clone()
    with torch.no_grad():
        weight[2, 1] = math.nan
    if restart:
        restart_radii(optimizer)
    train(optimizer, parameters, gradients[5:6])
    with torch.no_grad():
        weight.copy_(before)
    train(optimizer, parameters, gradients[6:8])
    assert all(math.isfinite(radius.radius) for radius in optimizer.radii().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_radii_of_low_rank_updates_do_so_too(dtype):
    parameters = make_factors(dtype)
    gradients = make_gradients(parameters, 2)
    optimizer = FTPAdamW(parameters.items(), low_rank=UPDATE, radius_lr=1e-3)
    train(optimizer, parameters, gradients[:1])
    optimizer.release_weights()
    with torch.no_grad():
        parameters["b"].fill_(0.5)
    told = optimizer.radii()["w"]
    assert (told.radius, told.deviation > 1) == (pytest.approx(1e-8), True)
    train(optimizer, parameters, gradients[1:])
    assert optimizer.radii()["w"].radius == pytest.approx(told.deviation, abs=3e-2)


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_looking_at_a_fresh_optimizer_makes_no_state(make, problem):
    # An empty entry would pass for an initialised state in torch.distributed.checkpoint.
    parameters, _ = problem
    optimizer = make(parameters.items(), anchors={name: p.detach() for name, p in parameters.items()})
    assert optimizer.radii() == optimizer.anchors() == {}
    assert not optimizer.state


@pytest.mark.parametrize("plain_first", [False, True])
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_hooks_run_once_a_step_whatever_was_instantiated_before(make, plain_first, monkeypatch, problem):
    # torch wraps `AdamW.step` in the hooks when the first AdamW of the process is made.
    parameters, gradients = problem
    for plain in (torch.optim.AdamW, torch.optim.SGD):
        bare = inspect.unwrap(plain.step, stop=lambda function: not hasattr(function, "hooked"))
        monkeypatch.setattr(plain, "step", bare)
        if plain_first:
            plain([torch.nn.Parameter(torch.zeros(1))])
            assert plain.step.hooked
    optimizer = make(parameters.items())
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(optimizer, parameters, gradients[:2])
    assert calls == ["before", "after"] * 2


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_state_dict_hooks_run_once(make, problem):
    parameters, gradients = problem
    optimizer = make(parameters.items())
    train(optimizer, parameters, gradients[:2])
    calls = []
    optimizer.register_state_dict_pre_hook(lambda *_: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("after saving"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("before loading"))
    optimizer.register_load_state_dict_post_hook(lambda *_: calls.append("after loading"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before saving", "after saving", "before loading", "after loading"]


def by_name(optimizer, state_dict):
    """torch's recipe: a hook that gives each parameter the state that was saved under its name."""
    adapted = copy.deepcopy(state_dict)
    for group, saved in zip(optimizer.param_groups, adapted["param_groups"], strict=True):
        number_of = dict(zip(saved["param_names"], saved["params"], strict=True))
        saved["param_names"] = list(group["param_names"])
        saved["params"] = [number_of[name] for name in group["param_names"]]
    return adapted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_what_a_hook_makes_of_a_state_dict_is_loaded(make, dtype):
    parameters = make_parameters(dtype)
    gradients = make_gradients(parameters, 20)
    optimizer = make(parameters.items(), exclude=["head.*"])
    train(optimizer, parameters, gradients[:10])
    resumed = clone(parameters)
    second = make(list(resumed.items())[::-1], exclude=["head.*"])
    second.register_load_state_dict_pre_hook(by_name)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[10:])


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_what_a_hook_changes_after_loading_stays(make, problem):
    parameters, gradients = problem
    optimizer = make(parameters.items())
    train(optimizer, parameters, gradients[:5])

    def forget(loaded):
        for state in loaded.state.values():
            state["radius"] = torch.zeros_like(state["radius"])

    optimizer.register_load_state_dict_post_hook(forget)
    optimizer.load_state_dict(optimizer.state_dict())
    assert all(state["radius"].eq(0).all() for state in optimizer.state.values())


def test_an_optimizer_that_loads_without_hooks_resumes_bit_for_bit():
    class Own(torch.optim.SGD):
        def load_state_dict(self, state_dict):
            groups, state = copy.deepcopy(state_dict["param_groups"]), {}
            for group, saved in zip(self.param_groups, groups, strict=True):
                for index, parameter in zip(saved["params"], group["params"], strict=True):
                    state[parameter] = {key: value.bfloat16() for key, value in state_dict["state"][index].items()}
                saved["params"] = group["params"]
            self.__setstate__({"state": state, "param_groups": groups})

    parameters = make_parameters(torch.bfloat16)
    gradients = make_gradients(parameters, 20)
    optimizer = FTP(Own(parameters.items(), lr=1e-2, momentum=0.9))
    train(optimizer, parameters, gradients[:10])
    resumed = clone(parameters)
    second = FTP(Own(resumed.items(), lr=1e-2, momentum=0.9))
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, parameters, second, resumed, gradients[10:])


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_schedulers_set_the_learning_rate_of_the_unconstrained_step(make, problem):
    parameters, gradients = problem
    twin = clone(parameters)
    optimizer, by_hand = make(parameters.items()), make(twin.items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 20)
        for step, gradient in enumerate(gradients[:20]):
            by_hand.param_groups[0]["lr"] = 1e-2 * (step + 1) / 20
            train(optimizer, parameters, [gradient])
            train(by_hand, twin, [gradient])
            schedule.step()
    assert_equal(parameters, twin)


@pytest.mark.usefixtures("_accelerate_as_it_was")
@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_accelerate_prepares_it_without_a_trace(make, problem):
    parameters, gradients = problem
    twin = clone(parameters)
    optimizer, plain = make(parameters.items(), exclude=["head.*"]), make(twin.items(), exclude=["head.*"])
    prepared = Accelerator(cpu=True).prepare(optimizer)
    train(prepared, parameters, gradients)
    train(plain, twin, gradients)
    assert_same_run(plain, twin, prepared.optimizer, parameters)


@pytest.mark.parametrize("wrapped", [False, True], ids=["class", "FTP"])
def test_state_of_a_plain_optimizer_is_refused_and_changes_nothing(wrapped, problem):
    parameters, gradients = problem
    plain = torch.optim.AdamW(parameters.items(), lr=0.5)
    train(plain, parameters, gradients[:3])
    optimizer = FTP(torch.optim.AdamW(parameters.items())) if wrapped else FTPAdamW(parameters.items())
    train(optimizer, parameters, gradients[:3])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"no anchors for 6 projected parameters \(scale, …\).* anchors="):
        optimizer.load_state_dict(plain.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert_equal(after["state"], before["state"])


def test_state_of_a_plain_optimizer_with_anchors_goes_on_with_the_options_of_each_group(problem):
    parameters, gradients = problem
    anchors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    plain = torch.optim.AdamW([{"params": [item]} for item in parameters.items()])
    train(plain, parameters, gradients[:5])
    groups = [{"params": [item], "kappa": 0.3, "project": item[0] != "proj.weight"} for item in parameters.items()]
    optimizer = FTPAdamW(groups, anchors=anchors)
    optimizer.load_state_dict(plain.state_dict())
    train(optimizer, parameters, gradients[5:])
    assert {group["kappa"] for group in optimizer.param_groups} == {0.3}
    assert set(optimizer.radii()) == set(parameters) - {"proj.weight"}
    for name, anchor in optimizer.anchors().items():
        assert torch.equal(anchor, anchors[name])


def test_a_state_of_another_model_is_refused_by_torch_and_changes_nothing(problem):
    parameters, gradients = problem
    optimizer = FTPAdamW(parameters.items())
    train(optimizer, parameters, gradients[:3])
    radii = optimizer.radii()
    with pytest.raises(ValueError, match="size of optimizer's group"):
        optimizer.load_state_dict(FTPAdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict())
    assert optimizer.radii() == radii


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("make", [FTPAdamW, FTPSGD, lambda *args, **kw: FTP(torch.optim.SGD(*args, **kw))])
def test_gradient_scaling(make, implementation, problem):
    parameters, gradients = problem
    twin = clone(parameters)
    optimizer = make(parameters.items(), lr=1e-2, **IMPLEMENTATIONS[implementation])
    unscaled = make(twin.items(), lr=1e-2, **IMPLEMENTATIONS[implementation])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.zeros(1))  # the scaler makes its tensors here
    for step, gradient in enumerate(gradients[:10]):
        overflow = step in {0, 4}
        for name, parameter in parameters.items():
            parameter.grad = gradient[name] * scaler.get_scale()
        if overflow:
            parameters["proj.weight"].grad[0, 0] = math.inf
            before, state = values(parameters), copy.deepcopy(optimizer.state_dict()["state"])
        else:
            train(unscaled, twin, [gradient])
        scaler.step(optimizer)
        scaler.update()
        if overflow:
            assert all(np.array_equal(parameter.detach(), before[name]) for name, parameter in parameters.items())
            assert_equal(optimizer.state_dict()["state"], state)
    assert scaler.get_scale() == 2.0**8
    assert_same_run(optimizer, parameters, unscaled, twin)
