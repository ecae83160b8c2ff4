"""bfloat16 weights follow the float32 run, through the float32 masters that the optimizer keeps."""

import copy

import numpy as np
import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW
from tests.support.equal import assert_equal
from tests.support.pieces import EVERYTHING, cut_into_pieces, every_optimizer
from tests.support.problems import (
    IMPLEMENTATIONS,
    assert_goes_on_alike,
    clone,
    make_gradients,
    make_parameters,
    train,
    values,
)

MAKE = {
    **{
        f"FTPAdamW-{name}": lambda p, o=options, **kw: FTPAdamW(p, lr=1e-3, **o, **kw)
        for name, options in IMPLEMENTATIONS.items()
    },
    "FTPSGD": lambda p, **kw: FTPSGD(p, lr=1e-3, momentum=0.9, **kw),
    "FTP-RAdam": lambda p, **kw: FTP(torch.optim.RAdam(p, lr=1e-3), **kw),
}
every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def problem(steps=30):
    """bfloat16 parameters, the same in float32, and gradients that bfloat16 holds."""
    narrow = {name: torch.nn.Parameter(p.detach().bfloat16()) for name, p in make_parameters(torch.float32).items()}
    wide = {name: torch.nn.Parameter(p.detach().float()) for name, p in narrow.items()}
    return narrow, wide, make_gradients(narrow, steps)


def widened(gradients):
    return [{name: g.float() for name, g in gradient.items()} for gradient in gradients]


@every
def test_weights_are_those_of_the_float32_run_rounded(make):
    narrow, wide, gradients = problem()
    optimizer, reference = make(narrow.items(), exclude=["head.*"]), make(wide.items(), exclude=["head.*"])
    for gradient in gradients:
        train(optimizer, narrow, [gradient])
        train(reference, wide, widened([gradient]))
        assert all(torch.equal(p, wide[name].bfloat16()) for name, p in narrow.items())
    assert optimizer.radii() == reference.radii()
    assert optimizer.param_groups[0]["params"] == list(narrow.values())
    assert all(p.dtype == torch.bfloat16 for p in narrow.values())


def test_plain_adamw_stands_still_where_the_masters_move():
    weight = torch.nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
    plain = torch.nn.Parameter(weight.detach().clone())
    optimizer = FTPAdamW([weight], lr=1e-4)
    reference = torch.optim.AdamW([plain], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        weight.grad, plain.grad = torch.ones_like(weight), torch.ones_like(plain)
        optimizer.step()
        reference.step()
    assert torch.equal(plain, torch.ones_like(plain))
    assert (weight - 1).abs().min() > 5e-3


@every
def test_resumed_equals_uninterrupted_bit_for_bit(make):
    narrow, _, gradients = problem()
    optimizer = make(narrow.items(), exclude=["head.*"])
    train(optimizer, narrow, gradients[:15])
    resumed = clone(narrow)
    second = make(resumed.items(), exclude=["head.*"])
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_goes_on_alike(optimizer, narrow, second, resumed, gradients[15:])
    for name, parameter in narrow.items():
        state, other = optimizer.state[parameter], second.state[resumed[name]]
        assert state["master"].dtype == torch.float32
        assert_equal(other, state)


def test_anchors_of_a_float32_checkpoint_are_those_that_the_model_runs_with():
    narrow, _, gradients = problem(5)
    pretrained = {name: p.detach().float() * (1 + 1e-4) for name, p in narrow.items()}
    optimizer = FTPAdamW(narrow.items(), anchors=pretrained)
    train(optimizer, narrow, gradients)
    for name, anchor in optimizer.anchors().items():
        assert torch.equal(anchor.bfloat16(), pretrained[name].bfloat16())
        assert torch.equal(anchor.float(), anchor.bfloat16().float())


def test_a_failed_step_leaves_the_parameters_in_their_places():
    narrow, _, gradients = problem(2)
    optimizer = FTP(torch.optim.AdamW(narrow.items()))
    before = values({name: p.float() for name, p in narrow.items()})
    gradients[0]["proj.weight"] = gradients[0]["proj.weight"].to_sparse()
    for name, parameter in narrow.items():
        parameter.grad = gradients[0][name]
    with pytest.raises(ValueError, match=r"proj\.weight is sparse"):
        optimizer.step()
    assert optimizer.param_groups[0]["params"] == list(narrow.values())
    assert all(np.array_equal(p.detach().float(), before[name]) for name, p in narrow.items())
    train(optimizer, narrow, gradients[1:])
    assert set(optimizer.radii()) == set(narrow)


@pytest.mark.parametrize("failing", [0, 4])
def test_a_step_that_fails_between_two_pieces_leaves_state_and_places(failing, monkeypatch):
    cut_into_pieces(monkeypatch)
    narrow, _, gradients = problem(6)
    steps = []

    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(1)
            if len(steps) == failing * len(narrow) + 2:
                raise MemoryError
            super().step(closure)

    monkeypatch.setattr("ftp_hf.optim.base.MOVE_EACH_ALONE", {Failing})
    pretrained = clone(narrow)
    optimizer = FTP(Failing(narrow.items(), lr=1e-3, momentum=0.9))
    train(optimizer, narrow, gradients[:failing])
    before = values({name: p.float() for name, p in narrow.items()})
    with pytest.raises(MemoryError):
        train(optimizer, narrow, gradients[failing : failing + 1])
    assert optimizer.param_groups[0]["params"] == list(narrow.values())
    assert set(optimizer.state) == set(narrow.values())
    masters = {name: optimizer.state[parameter]["master"] for name, parameter in narrow.items()}
    assert all(master.grad is None for master in masters.values())
    assert all(torch.equal(master.bfloat16(), narrow[name]) for name, master in masters.items())
    moved = [name for name, master in masters.items() if not np.array_equal(master.bfloat16().float(), before[name])]
    assert len(moved) <= 1
    train(optimizer, narrow, gradients[failing + 1 :])
    assert set(optimizer.radii()) == set(narrow)
    assert all(torch.equal(anchor, pretrained[name].float()) for name, anchor in optimizer.anchors().items())


def test_gradients_stay_as_they_were():
    narrow, _, gradients = problem(1)
    optimizer = FTPAdamW(narrow.items())
    train(optimizer, narrow, gradients)
    assert all(torch.equal(p.grad, gradients[0][name]) for name, p in narrow.items())
    assert all(p.grad.dtype == torch.bfloat16 for p in narrow.values())


@every_optimizer
def test_steps_in_pieces_are_steps_of_all(optimizer, monkeypatch):
    trained = []
    for elements in (EVERYTHING, 1):
        cut_into_pieces(monkeypatch, elements)
        narrow, _, gradients = problem(steps=5)
        train(FTP(optimizer(narrow.items(), lr=1e-2), exclude=["head.*"]), narrow, gradients)
        trained.append(narrow)
    assert_equal(*trained)


def test_hooks_of_a_wrapped_optimizer_see_one_step_over_all_parameters(monkeypatch):
    cut_into_pieces(monkeypatch)
    narrow, _, gradients = problem(steps=3)
    wrapped = torch.optim.AdamW(narrow.items(), lr=1e-3, fused=True)
    seen = []
    wrapped.register_step_post_hook(lambda optimizer, *_: seen.append(len(optimizer.param_groups[0]["params"])))
    train(FTP(wrapped), narrow, gradients)
    assert seen == [len(narrow)] * 3
