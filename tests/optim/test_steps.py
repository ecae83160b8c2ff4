"""Whole steps: against the slow reference and against torch's optimizers."""

import numpy as np
import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW, Radius
from ftp_hf.optim.reference import SGD, AdamW, Reference
from tests.support.equal import assert_equal
from tests.support.problems import (
    IMPLEMENTATIONS,
    LOOP,
    PROJECTED,
    assert_same_run,
    clone,
    make_gradients,
    make_parameters,
    train,
    values,
)

TRANSPOSED = "conv1d.weight"
STEPS = 30


class TorchStep:
    """One of torch's optimizers as the unconstrained step of the reference."""

    def __init__(self, make, weight):
        self.parameter = torch.nn.Parameter(weight.clone())
        self.optimizer = make([self.parameter])

    def step(self, weight, gradient):
        with torch.no_grad():
            self.parameter.copy_(weight)
        self.parameter.grad = gradient.clone()
        self.optimizer.step()
        return self.parameter.detach().clone()


def detached(parameters):
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def train_reference(references, gradients):
    for gradient in gradients:
        for name, value in gradient.items():
            if value is not None:
                references[name].step(value)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kappa", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("method", ["AdamW", "SGD"])
def test_steps_are_those_of_the_reference(method, implementation, kappa):
    parameters = make_parameters()
    gradients = make_gradients(parameters, STEPS)
    if method == "AdamW":
        options = {"lr": 2e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
        make, step = FTPAdamW, AdamW
    else:
        options = {"lr": 1e-2, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
        make, step = FTPSGD, SGD
    ours = {"kappa": kappa, "radius_lr": 0.03, "radius_betas": (0.7, 0.9), "transposed": [TRANSPOSED]}
    references = {
        name: Reference(
            weight, step(**options), kappa=kappa, mu=0.03, betas=(0.7, 0.9), row_dim=1 if name == TRANSPOSED else 0
        )
        for name, weight in detached(parameters).items()
    }
    optimizer = make(parameters.items(), **options, **IMPLEMENTATIONS[implementation], **ours)

    boundaries = set()
    for gradient in gradients:
        train(optimizer, parameters, [gradient])
        train_reference(references, [gradient])
        radii = optimizer.radii()
        assert list(radii) == list(parameters)
        for name, ref in references.items():
            close(parameters[name].detach(), ref.w)
            close(radii[name], Radius(ref.gamma, ref.deviation, ref.on_boundary))
            boundaries.add(ref.on_boundary)
    # The problem is worth its name: rows inside the ball, on it, and both at once.
    assert {0.0, 1.0} < boundaries
    assert max(radius.radius for radius in radii.values()) > 1e-3


@pytest.mark.parametrize(
    "name", ["RAdam", "NAdam", "Adam", "Adagrad", "Adadelta", "RMSprop", "Adamax", "ASGD", "Adafactor"]
)
def test_ftp_projects_around_any_optimizer(name):
    make = getattr(torch.optim, name)
    parameters = make_parameters()
    gradients = make_gradients(parameters, STEPS)
    references = {
        key: Reference(weight, TorchStep(lambda params: make(params, lr=1e-2), weight))
        for key, weight in detached(parameters).items()
    }
    optimizer = FTP(make(parameters.items(), lr=1e-2))
    train(optimizer, parameters, gradients)
    train_reference(references, gradients)
    for key, ref in references.items():
        close(parameters[key].detach(), ref.w)
        close(optimizer.radii()[key].radius, ref.gamma)


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_a_missing_gradient_leaves_the_parameter_and_its_neighbours_alone(make):
    parameters = make_parameters()
    gradients = make_gradients(parameters, STEPS)
    there = {
        name: [step for step in range(STEPS) if (step + index) % 3 or not index]
        for index, name in enumerate(parameters)
    }
    missing = [{name: g for name, g in gradients[step].items() if step in there[name]} for step in range(STEPS)]
    alone = {name: clone({name: parameter}) for name, parameter in parameters.items()}

    optimizer = make(parameters.items())
    train(optimizer, parameters, missing)
    assert len({len(steps) for steps in there.values()}) > 1
    for name, single in alone.items():
        one = make(single.items())
        train(one, single, [gradients[step] for step in there[name]])
        assert torch.equal(parameters[name], single[name]), name
        assert optimizer.radii()[name] == one.radii()[name]


def test_a_parameter_that_never_had_a_gradient_has_no_radius_and_does_not_move():
    parameters = make_parameters()
    before = values(parameters)
    gradients = [{**g, "proj.weight": None} for g in make_gradients(parameters, 3)]
    optimizer = FTPAdamW(parameters.items(), weight_decay=0.1)
    train(optimizer, parameters, gradients)
    assert set(optimizer.radii()) == set(parameters) - {"proj.weight"}
    assert np.array_equal(parameters["proj.weight"].detach(), before["proj.weight"])


def test_maximize_is_minimizing_with_the_opposite_gradient():
    parameters = make_parameters()
    twin = clone(parameters)
    gradients = make_gradients(parameters, STEPS)
    ascent = FTPAdamW(parameters.items(), lr=1e-2, maximize=True)
    descent = FTPAdamW(twin.items(), lr=1e-2)
    train(ascent, parameters, gradients)
    train(descent, twin, [{name: -g for name, g in gradient.items()} for gradient in gradients])
    assert_same_run(ascent, parameters, descent, twin)


@pytest.mark.parametrize("wrapped", [False, True], ids=["class", "FTP"])
def test_groups_follow_their_own_options(wrapped):
    parameters = make_parameters()
    groups = [
        {"params": [("scale", parameters["scale"]), ("norm.weight", parameters["norm.weight"])], "kappa": 0.0},
        {"params": [("proj.weight", parameters["proj.weight"])], "radius_lr": 0.1, "radius_betas": (0.5, 0.6)},
        {"params": [("conv.weight", parameters["conv.weight"])], "project": False},
        {"params": [(n, parameters[n]) for n in ("conv1d.weight", "head.weight")], "exclude": ["head.*"], "lr": 0.05},
    ]
    weights = detached(parameters)
    references = {
        "scale": Reference(weights["scale"], AdamW(lr=0.01), kappa=0.0),
        "norm.weight": Reference(weights["norm.weight"], AdamW(lr=0.01), kappa=0.0),
        "proj.weight": Reference(weights["proj.weight"], AdamW(lr=0.01), kappa=0.5, mu=0.1, betas=(0.5, 0.6)),
        "conv1d.weight": Reference(weights["conv1d.weight"], AdamW(lr=0.05), kappa=0.5),
    }
    plain = clone({name: parameters[name] for name in ("conv.weight", "head.weight")})
    gradients = make_gradients(parameters, STEPS)
    if wrapped:
        optimizer = FTP(torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0), kappa=0.5)
    else:
        optimizer = FTPAdamW(groups, lr=0.01, kappa=0.5)
    train(optimizer, parameters, gradients)
    train_reference(references, [{name: g[name] for name in references} for g in gradients])
    for name, ref in references.items():
        close(parameters[name].detach(), ref.w)
    assert set(optimizer.radii()) == set(references)

    for name, lr in {"conv.weight": 0.01, "head.weight": 0.05}.items():
        train(torch.optim.AdamW([plain[name]], lr=lr, weight_decay=0.0), {name: plain[name]}, gradients)
        assert torch.equal(parameters[name], plain[name])


def test_group_added_later_starts_its_own_count():
    parameters = make_parameters()
    gradients = make_gradients(parameters, STEPS)
    late = parameters.pop("proj.weight")
    reference = Reference(late.detach().clone(), AdamW(lr=0.05), kappa=0.0)
    optimizer = FTPAdamW(parameters.items(), lr=0.01)
    train(optimizer, parameters, gradients[:10])
    optimizer.add_param_group({"params": [("proj.weight", late)], "lr": 0.05, "kappa": 0.0})
    train(optimizer, {**parameters, "proj.weight": late}, gradients[10:])
    train_reference({"proj.weight": reference}, [{"proj.weight": g["proj.weight"]} for g in gradients[10:]])
    close(late.detach(), reference.w)


PLAIN = {
    "AdamW-default": ("AdamW", {"weight_decay": 0.01}),
    "AdamW-fused": ("AdamW", {"weight_decay": 0.01, "fused": True}),
    "AdamW-foreach": ("AdamW", {"foreach": True}),
    "AdamW-loop": ("AdamW", LOOP),
    "AdamW-fused-amsgrad-maximize": ("AdamW", {"fused": True, "amsgrad": True, "maximize": True}),
    "AdamW-foreach-amsgrad-maximize": ("AdamW", {"foreach": True, "amsgrad": True, "maximize": True}),
    "AdamW-tensor-lr": ("AdamW", {"lr": torch.tensor(0.01), **LOOP}),
    "AdamW-fused-tensor-lr": ("AdamW", {"lr": torch.tensor(0.01), "fused": True}),
    "AdamW-options": ("AdamW", {"betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.1}),
    "SGD-default": ("SGD", {}),
    "SGD-fused": ("SGD", {"momentum": 0.9, "dampening": 0.1, "fused": True}),
    "SGD-foreach-nesterov": ("SGD", {"momentum": 0.9, "nesterov": True, "foreach": True}),
    "SGD-loop-maximize-decay": ("SGD", {"momentum": 0.9, "maximize": True, "weight_decay": 0.1, **LOOP}),
    "SGD-tensor-lr": ("SGD", {"lr": torch.tensor(0.01), **LOOP}),
}


# An excluded bfloat16 parameter is trained in float32 (test_masters.py).
@pytest.mark.parametrize(
    ("how", "dtype"),
    [("project=False", torch.float32), ("project=False", torch.bfloat16), ("exclude", torch.float32)],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["class", "FTP"])
@pytest.mark.parametrize(("method", "options"), PLAIN.values(), ids=PLAIN)
def test_without_projection_it_is_torchs_optimizer_bit_for_bit(method, options, wrapped, how, dtype):
    options = {"weight_decay": 0.0, **options}
    plain, projecting = {"AdamW": (torch.optim.AdamW, FTPAdamW), "SGD": (torch.optim.SGD, FTPSGD)}[method]
    parameters = make_parameters(dtype)
    twin = clone(parameters)
    gradients = make_gradients(parameters, 10)
    groups = [{"params": list(parameters.items()), **({"project": False} if how == "project=False" else {})}]
    ours = {} if how == "project=False" else {"exclude": ["*"]}
    optimizer = FTP(plain(groups, **options), **ours) if wrapped else projecting(groups, **options, **ours)
    torch_optimizer = plain(twin.items(), **options)
    train(optimizer, parameters, gradients)
    train(torch_optimizer, twin, gradients)
    for name, parameter in parameters.items():
        assert torch.equal(parameter, twin[name]), name
        assert optimizer.state[parameter].keys() == torch_optimizer.state[twin[name]].keys()
    assert optimizer.radii() == {}


@pytest.mark.parametrize("method", ["AdamW", "SGD"])
def test_arguments_and_defaults_are_torchs_own(method):
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    plain, projecting = {"AdamW": (torch.optim.AdamW, FTPAdamW), "SGD": (torch.optim.SGD, FTPSGD)}[method]
    assert projecting([parameter]).defaults == {**plain([parameter]).defaults, "weight_decay": 0.0}
    assert isinstance(projecting([parameter]), plain)


def test_capturable_is_refused_on_the_cpu_as_torch_refuses_it():
    errors = []
    for optimizer_class in (torch.optim.AdamW, FTPAdamW):
        parameter = torch.nn.Parameter(torch.zeros(2, 2))
        parameter.grad = torch.ones(2, 2)
        with pytest.raises(Exception, match="capturable") as error:
            optimizer_class([parameter], capturable=True, **LOOP).step()
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_closure_is_evaluated_once_with_gradients_and_its_loss_returned(make):
    parameters = make_parameters()
    twin = clone(parameters)
    optimizer, other = make(parameters.items()), make(twin.items())
    for _ in range(5):
        losses = []

        def closure():
            optimizer.zero_grad()
            losses.append(sum((parameter**2).sum() for parameter in parameters.values()))  # noqa: B023
            losses[-1].backward()  # noqa: B023
            return losses[-1]  # noqa: B023

        assert optimizer.step(closure) is losses[0]
        assert len(losses) == 1
        other.zero_grad()
        sum((parameter**2).sum() for parameter in twin.values()).backward()
        assert other.step() is None
    assert_equal(parameters, twin)


def test_step_one_returns_to_the_anchor_and_step_two_moves():
    parameters = make_parameters(torch.float32)
    before = values(parameters)
    gradients = make_gradients(parameters, 1)
    optimizer = FTPAdamW(parameters.items(), lr=1e-2)
    train(optimizer, parameters, gradients)
    for name, parameter in parameters.items():
        np.testing.assert_allclose(parameter.detach(), before[name], rtol=0, atol=2e-8)
        assert optimizer.radii()[name].radius == pytest.approx(1e-8)
    train(optimizer, parameters, gradients)
    for name, parameter in parameters.items():
        assert np.abs(parameter.detach().numpy() - before[name]).max() > 1e-4


def test_transposed_rows_are_the_linear_layer_with_the_weight_transposed():
    linear = torch.nn.Parameter(torch.randn(6, 5, dtype=torch.float64))
    conv1d = torch.nn.Parameter(linear.detach().T.contiguous())
    gradients = make_gradients({"weight": linear}, STEPS)
    first, second = (
        FTPAdamW([("weight", linear)], lr=1e-2),
        FTPAdamW([("weight", conv1d)], lr=1e-2, transposed=["weight"]),
    )
    train(first, {"weight": linear}, gradients)
    train(second, {"weight": conv1d}, [{"weight": g["weight"].T.contiguous()} for g in gradients])
    np.testing.assert_allclose(conv1d.detach().T, linear.detach(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(second.radii()["weight"], first.radii()["weight"], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("rows", "order"), [((0, 1), (0, 1, 2)), ((0, 2), (0, 2, 1)), ((1, 2), (1, 2, 0)), ((2, 1), (1, 2, 0))], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_that_several_dimensions_count_are_those_of_one_matrix(rows, order, dtype):
    stacked = torch.nn.Parameter(torch.randn(3, 4, 5, dtype=dtype))

    def matrix(x):
        return x.permute(order).flatten(0, 1).clone(memory_format=torch.contiguous_format)

    one = torch.nn.Parameter(matrix(stacked.detach()))
    gradients = make_gradients({"w": stacked}, STEPS)
    first, second = FTPAdamW([("w", one)], lr=1e-2), FTPAdamW([("w", stacked)], lr=1e-2, rows={"w": rows})
    train(first, {"w": one}, [{"w": matrix(g["w"])} for g in gradients])
    train(second, {"w": stacked}, gradients)
    atol = 1e-14 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(matrix(stacked.detach()), one.detach(), rtol=0, atol=atol)
    np.testing.assert_allclose(second.radii()["w"], first.radii()["w"], rtol=0, atol=10 * atol)


def test_rows_along_dimension_1_are_the_transposed_ones_bit_for_bit():
    parameters = make_parameters(torch.float32)
    twins = clone(parameters)
    gradients = make_gradients(parameters, STEPS)
    train(FTPAdamW(parameters.items(), lr=1e-2, transposed=["con*"]), parameters, gradients)
    train(FTPAdamW(twins.items(), lr=1e-2, rows={"con*": (1,), "*.weight": (0,)}), twins, gradients)
    assert_equal(parameters, twins)


def test_memory_layout_makes_no_difference():
    dense = torch.nn.Parameter(torch.randn(4, 3, 2, 2, dtype=torch.float64))
    strided = torch.nn.Parameter(dense.detach().clone().to(memory_format=torch.channels_last))
    gradients = make_gradients({"w": dense}, STEPS)
    train(FTPAdamW([dense], lr=1e-2), {"w": dense}, gradients)
    train(FTPAdamW([strided], lr=1e-2), {"w": strided}, gradients)
    assert strided.is_contiguous(memory_format=torch.channels_last)
    close(strided.detach(), dense.detach())


def test_tied_weights_are_one_tensor_with_one_radius():
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(7, 5), "head": torch.nn.Linear(5, 7, bias=False)}).double()
    model["head"].weight = model["embed"].weight
    reference = Reference(model["head"].weight.detach().clone(), AdamW(lr=1e-2))
    optimizer = FTPAdamW(model.named_parameters(), lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        logits = model["head"](model["embed"](torch.arange(7)))
        torch.nn.functional.cross_entropy(logits, torch.arange(6, -1, -1)).backward()
        reference.step(model["embed"].weight.grad.clone())
        optimizer.step()
    close(model["head"].weight.detach(), reference.w)
    assert list(optimizer.radii()) == ["embed.weight"]
