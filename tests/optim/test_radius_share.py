"""Radii that learn at a share of what the optimizer can move a row by: by hand, beside the reference, and through state dicts."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter, load, save
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from ftp_hf import FTP, FTPSGD, FTPAdamW, LowRankProduct, LowRankUpdate
from ftp_hf.optim.reference import SGD, AdamW, Reference
from tests.support.problems import (
    LOOP,
    assert_goes_on_alike,
    assert_same_run,
    clone,
    make_gradients,
    make_parameters,
    train,
)

MAKE = {
    "FTPAdamW": FTPAdamW,
    "FTPSGD": FTPSGD,
    "FTP": lambda params, **options: FTP(torch.optim.AdamW(params), **options),
}
every_class = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)

# Every step of either Adam is as long as its learning rate says: betas of 0 leave the sign of the gradient.
SIGNS = {"betas": (0.0, 0.0), "radius_betas": (0.0, 0.0)}

# Name → shape, and how many entries a row has.
FAN_INS = {
    "scalar": ((), 1),
    "vector": ((3,), 3),
    "matrix": ((2, 4), 4),
    "depthwise": ((5, 1, 3, 3), 9),
    "conv1d": ((2, 5), 2),
    "experts": ((2, 3, 7), 7),
    "resized": ((6, 8), 8),
    "resized.bias": ((6,), 4),
}


def stepped(optimizer, rates):
    """The radii after each step downhill, whose learning rate is that."""
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        yield {name: value.radius for name, value in optimizer.radii().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_radius_goes_by_the_share_of_learning_rate_times_fan_in(dtype):
    parameters = {name: torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for name, (shape, _) in FAN_INS.items()}
    optimizer = FTPAdamW(
        parameters.items(),
        **SIGNS,
        radius_share=0.25,
        transposed=["conv1d"],
        rows={"experts": (0, 1)},
        pretrained_rows={"resized*": 4},
    )
    # Step 1 has nothing to learn from. Of a fan-in of 4 the radius comes to these lengths.
    rates = [0.01, 0.01, 0.02, 0.0, 0.01]
    lengths = [0.0, 0.01, 0.03, 0.03, 0.04]
    for radii, length in zip(stepped(optimizer, rates), lengths, strict=True):
        for name, (_, fan_in) in FAN_INS.items():
            assert radii[name] == pytest.approx(length * fan_in / 4 + 1e-8, rel=1e-5), name


def test_each_group_has_its_own_rate_and_share():
    parameters = [torch.nn.Parameter(torch.zeros(2, 4)) for _ in range(3)]
    optimizer = FTPAdamW(
        [
            {"params": [("a", parameters[0])], "lr": 0.01},
            {"params": [("b", parameters[1])], "lr": 0.02, "radius_share": 0.1},
            {"params": [("c", parameters[2])], "lr": 0.02, "radius_share": None, "radius_lr": 0.003},
        ],
        **SIGNS,
        radius_share=0.25,
    )
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    radii = {name: value.radius for name, value in optimizer.radii().items()}
    assert radii == pytest.approx({"a": 0.01, "b": 0.008, "c": 0.003}, rel=1e-5)


@pytest.mark.parametrize("method", ["AdamW", "SGD", "FTP"])
def test_steps_are_those_of_the_reference(method):
    make, kind = {
        "AdamW": (lambda p, **ours: FTPAdamW(p, fused=True, **ours), AdamW),
        "SGD": (FTPSGD, SGD),
        "FTP": (lambda p, **ours: FTP(torch.optim.AdamW(p, weight_decay=0.0, foreach=True), **ours), AdamW),
    }[method]
    parameters = make_parameters()
    options = {"kappa": 0.8, "radius_betas": (0.7, 0.9)}
    optimizer = make(parameters.items(), radius_share=0.1, transposed=["conv1d.weight"], **options)
    references = {
        name: Reference(weight.detach().clone(), kind(), 0.8, betas=(0.7, 0.9), row_dim=int("1d" in name), rho=0.1)
        for name, weight in parameters.items()
    }
    for step, gradient in enumerate(make_gradients(parameters, 20)):
        # From zero and back to it.
        optimizer.param_groups[0]["lr"] = rate = 0.01 * min(step, 19 - step)
        train(optimizer, parameters, [gradient])
        radii = optimizer.radii()
        for name, reference in references.items():
            reference.unconstrained.lr = rate
            reference.step(gradient[name])
            np.testing.assert_allclose(parameters[name].detach(), reference.w, rtol=0, atol=1e-12, err_msg=name)
            assert radii[name].radius == pytest.approx(reference.gamma.item(), rel=1e-9), name
    assert max(value.radius for value in radii.values()) > 1e-2


def test_a_learning_rate_may_be_a_tensor():
    ends = []
    for rate in (1e-2, torch.tensor(1e-2), torch.tensor(1e-2, dtype=torch.float64)):
        parameters = make_parameters(torch.float32)
        optimizer = FTPAdamW(parameters.items(), lr=rate, radius_share=0.05, **LOOP)
        train(optimizer, parameters, make_gradients(parameters, 6))
        ends.append([value.radius for value in optimizer.radii().values()])
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)
    assert ends[0] == pytest.approx(ends[2], rel=1e-5)


A = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.0, 1.5]])  # whose entries are 5 in all


def product(rows, **layout):
    return LowRankProduct(rows, **{"columns": A, "scaling": -2.0} | layout)


@pytest.mark.parametrize(
    ("products", "shapes", "reach"),
    [
        ([product("b")], {"b": (4, 2)}, 10),
        ([product("b"), product("c", scaling=0.5)], {"b": (4, 2), "c": (4, 2)}, 12.5),
        ([product("b", columns=A.T, transposed=True)], {"b": (2, 4)}, 10),
        # The blocks have 3 and 2; the rows are one radius, which the longest has.
        ([product("b", blocks=2)], {"b": (4, 2)}, 6),
        # b scales the rows of a fixed matrix, whose second row goes farthest: 3 · 3 + 2 · 2.
        (
            [
                product(
                    "b",
                    columns=torch.ones(2),
                    scaling=1.0,
                    bases=(torch.tensor([[1.0, 1.0], [-3.0, 2.0], [0.0, 4.0], [0.0, 0.0]]), A),
                )
            ],
            {"b": (4,)},
            13,
        ),
    ],
    ids=["product", "two", "embedding", "experts", "bases"],
)
def test_an_update_in_factors_goes_by_the_share_of_what_the_rows_can_be_moved_by(products, shapes, reach):
    parameters = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    optimizer = FTPAdamW(parameters.items(), **SIGNS, radius_share=0.01, low_rank=[LowRankUpdate("w", tuple(products))])
    # A share this small binds, whatever the signs of A leave of a step.
    lengths = [radii["w"] for radii in stepped(optimizer, [0.01, 0.01, 0.0, 0.02])]
    assert lengths == pytest.approx([1e-8 + 1e-4 * reach * n for n in (0, 1, 1, 3)], rel=1e-5)


def test_what_the_other_factor_has_grown_to_counts():
    b, a = torch.nn.Parameter(torch.zeros(4, 2)), torch.nn.Parameter(A.clone())
    update = LowRankUpdate("w", (LowRankProduct("b", "a"),))
    optimizer = FTPAdamW([("b", b), ("a", a)], lr=0.01, **SIGNS, radius_share=0.01, low_rank=[update])
    b.grad, a.grad = torch.ones_like(b), -torch.sign(A) - (A == 0).float()
    for step in (0, 1):
        optimizer.step()
        # Six entries, of which each grows by 0.01 a step.
        assert a.abs().sum().item() == pytest.approx(5.06 + 0.06 * step)
    assert optimizer.radii()["w"].radius == pytest.approx(1e-4 * 5.12, rel=1e-4)
    a.grad[0, 0] = math.nan
    optimizer.step()
    assert optimizer.radii()["w"].radius == pytest.approx(1e-4 * 5.12, rel=1e-4), "the radius of a diverged update"


@every_class
def test_resumed_is_uninterrupted_bit_for_bit(make):
    parameters = make_parameters(torch.float32)
    gradients = make_gradients(parameters, 12)
    optimizer = make(parameters.items(), radius_share=0.05)
    train(optimizer, parameters, gradients[:6])
    (pickled_twin, pickled), twin = pickle.loads(pickle.dumps((parameters, optimizer))), clone(parameters)
    resumed = make(twin.items())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups[0]["radius_share"] == 0.05
    train(pickled, pickled_twin, gradients[6:])
    assert_goes_on_alike(optimizer, parameters, resumed, twin, gradients[6:])
    assert_same_run(optimizer, parameters, pickled, pickled_twin)


@every_class
def test_a_state_of_before_goes_on_at_its_rate(make):
    parameters = make_parameters(torch.float32)
    gradients = make_gradients(parameters, 12)
    optimizer = make(parameters.items(), radius_lr=0.05)
    train(optimizer, parameters, gradients[:6])
    state = copy.deepcopy(optimizer.state_dict())
    assert "radius_share" not in state["param_groups"][0]
    # Its options come with a state, as torch's do, and here there was no share among them.
    twin = clone(parameters)
    resumed = make(twin.items(), radius_share=0.03)
    resumed.load_state_dict(state)
    assert "radius_share" not in resumed.param_groups[0]
    assert_goes_on_alike(optimizer, parameters, resumed, twin, gradients[6:])


def test_sharded_files_of_before_are_loaded(tmp_path):
    model = torch.nn.Linear(4, 3)
    optimizer = FTPAdamW(model.named_parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    save({"optimizer": get_optimizer_state_dict(model, optimizer)}, storage_writer=FileSystemWriter(tmp_path))
    assert b"radius_lr" in (tmp_path / ".metadata").read_bytes()
    assert b"radius_share" not in (tmp_path / ".metadata").read_bytes()
    second = FTPAdamW(model.named_parameters(), kappa=0.5)
    state = {"optimizer": get_optimizer_state_dict(model, second)}
    load(state, storage_reader=FileSystemReader(tmp_path))
    set_optimizer_state_dict(model, second, state["optimizer"])
    assert second.param_groups[0]["kappa"] == 1.0


@every_class
def test_a_rate_and_a_share_are_refused_together(make):
    parameter = torch.nn.Parameter(torch.ones(2))
    both = r"radius_share=0\.03 and radius_lr=0\.05 both say how fast radii learn"
    with pytest.raises(ValueError, match=both):
        make([parameter], radius_share=0.03, radius_lr=0.05)
    with pytest.raises(ValueError, match=both):
        make([{"params": [parameter], "radius_lr": 0.05}], radius_share=0.03)
    assert make([parameter], radius_share=0.03, radius_lr=0.01).param_groups[0]["radius_share"] == 0.03


@every_class
@pytest.mark.parametrize("share", [-0.1, math.inf, math.nan])
def test_a_share_out_of_range_is_named(make, share):
    with pytest.raises(ValueError, match=f"radius_share must be finite and not negative, got {share}"):
        make([torch.nn.Parameter(torch.ones(2))], radius_share=share)


def test_an_optimizer_without_a_learning_rate_is_refused():
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(
        ValueError, match=r"radius_share=0\.03 is a share of the learning rate, and the param group has"
    ):
        FTP(torch.optim.Optimizer([parameter], {"lr": None}), radius_share=0.03)


def test_a_share_of_zero_is_a_share():
    optimizer = FTPAdamW([torch.nn.Parameter(torch.ones(2, 2))], radius_share=0)
    assert optimizer.param_groups[0]["radius_share"] == 0
