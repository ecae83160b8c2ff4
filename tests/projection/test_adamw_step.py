"""AdamW's step in the pass of the radius gradient is torch's fused one."""

import itertools

import pytest
import torch
from torch.optim import AdamW

from ftp_hf import FTP, FTPAdamW
from ftp_hf.projection.adamw_step import adamw_steps
from ftp_hf.projection.kernels import cpu, cuda
from ftp_hf.projection.tensor import ProjectedTensor
from tests.support.adamw import OPTIONS, SHAPES, copied, step_of_torch, trained
from tests.support.equal import assert_equal
from tests.support.marks import INTERPRETED


@pytest.mark.parametrize(
    "kernels", [cpu, pytest.param(cuda, marks=[pytest.mark.slow, INTERPRETED])], ids=["cpu", "triton"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("shape", "rows"), SHAPES.values(), ids=SHAPES)
@torch.no_grad()
def test_the_step_is_that_of_torch(shape, rows, options, dtype, kernels):
    with torch.enable_grad():
        weight, tensor = trained(shape, options, dtype, rows)
    expected, untouched = step_of_torch(tensor, options), copied(tensor)
    steps = adamw_steps([tensor])
    gradients = kernels.radius_gradients([tensor], steps)
    assert torch.equal(gradients, kernels.radius_gradients([untouched]))
    assert torch.equal(tensor.held, untouched.held)
    found = [weight.detach(), *(tensor.state[key] for key in ("step", "exp_avg", "exp_avg_sq"))]
    for ours, theirs in zip(found, expected, strict=True):
        if kernels is cuda:  # whose operations are those of torch on CUDA, in another order (test_gpu.py compares them)
            torch.testing.assert_close(ours, theirs, rtol=5e-7, atol=1e-6)
        elif weight.numel() % 16:  # whose last elements torch itself rounds otherwise
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
    with torch.no_grad():
        some_rows = ProjectedTensor.of("w", weight, None, state, group, 0, pretrained_rows=5)
        odd = [
            ProjectedTensor.of("w", weight, None, {**state, "exp_avg": moments}, group, 0)
            for moments in (torch.zeros(16, 8).t(), torch.zeros(7, 16))
        ]
    assert adamw_steps([some_rows, *odd]) == [None] * 3


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
    assert_equal(wrapped, weights)
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
