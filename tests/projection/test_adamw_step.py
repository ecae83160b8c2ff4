"""AdamW's step in the pass of the radius gradient is torch's fused one."""

import copy
import itertools

import pytest
import torch
from torch.optim import AdamW

from ftp_hf import FTP, FTPAdamW
from ftp_hf.projection.adamw_step import adamw_steps
from ftp_hf.projection.kernels import cpu
from ftp_hf.projection.tensor import ProjectedTensor

OPTIONS = {
    "defaults": {},
    "decay": {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-6},
    "maximize": {"maximize": True, "weight_decay": 0.01},
    "no moments": {"betas": (0.6, 0.0), "lr": 0.3},
    "tensors": {"lr": torch.tensor(1e-2)},
}
# The last elements of a tensor whose number is no multiple of 16 are rounded otherwise by torch itself.
SHAPES = {
    "matrix": ((48, 64), 0),
    "long rows": ((2, 4096 + 1024), 0),
    "ends": ((7, 9), 0),
    "scalar": ((), 0),
    "columns": ((600, 48), 1),
    "conv": ((4, 4, 3, 3), 1),
}
"""Shapes, and the dimension that counts rows."""


def trained(shape, options, dtype=torch.float32, rows=0):
    """A parameter, and its tensor with the state after two steps of an FTPAdamW and another gradient."""
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
    optimizer = FTPAdamW([("w", parameter)], fused=True, **options, transposed=["w"] if rows else [])
    for _ in range(2):
        parameter.grad = torch.randn(shape, generator=generator).to(dtype)
        optimizer.step()
    parameter.grad = torch.randn(shape, generator=generator).to(dtype)
    state, group = optimizer.state[parameter], optimizer.param_groups[0]
    master = state.pop("master", None)
    weight = parameter if master is None else master
    stands_for = None if master is None else parameter
    return weight, ProjectedTensor.of("w", weight, stands_for, state, group, rows)


def step_of_torch(tensor, options):
    """What torch's fused AdamW makes of a copy: the weight, its moments and its count."""
    weight = torch.nn.Parameter(tensor.weight.detach().clone())
    optimizer = torch.optim.AdamW([weight], **{"weight_decay": 0.0, **options}, fused=True)
    optimizer.state[weight] = copy.deepcopy({key: tensor.state[key] for key in ("step", "exp_avg", "exp_avg_sq")})
    weight.grad = tensor.gradient.float()
    optimizer.step()
    return [weight.detach(), *optimizer.state[weight].values()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("shape", "rows"), SHAPES.values(), ids=SHAPES)
@torch.no_grad()
def test_the_step_is_that_of_torch(shape, rows, options, dtype):
    with torch.enable_grad():
        weight, tensor = trained(shape, options, dtype, rows)
    expected, untouched = step_of_torch(tensor, options), copy.deepcopy(tensor)
    steps = adamw_steps([tensor])
    gradients = cpu.radius_gradients([tensor], steps)
    assert torch.equal(gradients, cpu.radius_gradients([untouched]))
    assert torch.equal(tensor.held, untouched.held)
    found = [weight.detach(), *(tensor.state[key] for key in ("step", "exp_avg", "exp_avg_sq"))]
    for ours, theirs in zip(found, expected, strict=True):
        if weight.numel() % 16:
            torch.testing.assert_close(ours, theirs, rtol=2.4e-7, atol=1e-9)
        else:
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [{"amsgrad": True}, {"fused": None}, {"capturable": True}, {"betas": (0.5, 0.9)}],
    ids=lambda options: next(iter(options)),
)
def test_what_is_left_to_torch(options):
    weight = torch.nn.Parameter(torch.randn(8, 16))
    optimizer = FTPAdamW([weight], fused=True)
    weight.grad = torch.randn(8, 16)
    optimizer.step()
    group = {**optimizer.param_groups[0], **options}
    tensor = ProjectedTensor.of("w", weight, None, optimizer.state[weight], group, 0)
    assert adamw_steps([tensor]) == [None]
    assert optimizer.state[weight]["step"] == 1


def test_resized_embeddings_and_odd_moments_are_left_to_torch():
    weight = torch.nn.Parameter(torch.randn(8, 16))
    optimizer = FTPAdamW([weight], fused=True)
    weight.grad = torch.randn(8, 16)
    optimizer.step()
    state, group = optimizer.state[weight], optimizer.param_groups[0]
    odd = {**state, "exp_avg": torch.zeros(16, 8).t()}
    with torch.no_grad():
        some_rows = ProjectedTensor.of("w", weight, None, state, group, 0, first_rows=5)
        laid_out_otherwise = ProjectedTensor.of("w", weight, None, odd, group, 0)
    assert adamw_steps([some_rows, laid_out_otherwise]) == [None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_wrapped_adamw_steps_as_ftp_adamw(dtype, monkeypatch):
    passed = []
    monkeypatch.setattr(
        "ftp_hf.optim.unconstrained.adamw_steps", lambda batch: passed.append(batch) or adamw_steps(batch)
    )
    results = []
    for make in (FTPAdamW, lambda *arguments, **options: FTP(AdamW(*arguments, weight_decay=0.0, **options))):
        generator = torch.Generator().manual_seed(0)
        shapes = [shape for shape, _ in SHAPES.values()]
        weights = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
        optimizer = make(weights, lr=1e-3, fused=True)
        for _ in range(5):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator).to(dtype)
            optimizer.step()
        results.append((weights, optimizer.radii(), len(passed)))
    (weights, radii, taken), (wrapped, radii_of_wrapped, taken_in_all) = results
    assert all(map(torch.equal, weights, wrapped))
    assert radii == radii_of_wrapped
    assert taken_in_all == 2 * taken > 0


def test_steps_with_and_without_it_are_the_same_to_the_last_digits():
    results = []
    for fused in (True, False):
        generator = torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape, _ in SHAPES.values()]
        optimizer = FTPAdamW(weights, lr=1e-3, fused=fused)
        for weight in itertools.chain(*[weights] * 20):
            weight.grad = torch.randn(weight.shape, generator=generator)
            if weight is weights[-1]:
                optimizer.step()
        results.append(weights)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)
