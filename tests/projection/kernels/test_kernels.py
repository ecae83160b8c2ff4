"""Every implementation of the projection against the slow reference, and what each of them promises besides."""

import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ftp_hf import FTPAdamW
from ftp_hf.optim.reference import AdamW, Reference
from ftp_hf.projection.kernels import cpu as cpu_kernels
from ftp_hf.projection.kernels import cuda as triton_kernels
from ftp_hf.projection.kernels import dispatch as kernels
from ftp_hf.projection.kernels import eager as eager_kernels
from tests.support.equal import assert_equal
from tests.support.marks import INTERPRETED
from tests.support.problems import make_gradients, train

KERNELS = {"eager": eager_kernels, "cpu": cpu_kernels, "triton": triton_kernels}
TRITON = pytest.param("triton", marks=INTERPRETED)
SLOW_TRITON = pytest.param("triton", marks=[pytest.mark.slow, INTERPRETED])
LAUNCHES = ["_radius_gradient_kernel", "_sum_kernel", "_learn_kernel", "_project_kernel", "_settle_kernel"]
STEPS = 24


def strided(shape):
    """A matrix whose rows are farther apart than they are long."""
    return torch.empty(shape[0], 2 * shape[1])[:, : shape[1]]


# The Triton kernels read blocks of 2¹⁵ elements (those of the CPU are set to as many here) in tiles of 4,096, of rows of 256
# to 1,024 elements and of longer ones that begin at boundaries of 16 bytes, of rows side by side, and of any others: below, at and
# above all of these.
LAYOUTS = {
    "scalar": torch.empty(()),
    "vector": torch.empty(5),
    "long-vector": torch.empty(600),
    "spaced-vector": torch.empty(10)[::2],
    "matrix": torch.empty(6, 5),
    "row": torch.empty(1, 7),
    "column": torch.empty(7, 1),
    "tile": torch.empty(8, 512),
    "narrow-rows": torch.empty(70, 24),
    "short-rows": torch.empty(5, 1016),
    "long-rows": torch.empty(9, 4104),
    "blocks": torch.empty(33, 1030),
    "conv": torch.empty(4, 3, 2, 2),
    "channels-last": torch.empty(4, 3, 2, 2).to(memory_format=torch.channels_last),
    "strided": strided((6, 5)),
    "transposed-storage": torch.empty(5, 6).T,
    "conv1d": torch.empty(5, 7),
    "conv1d-3d": torch.empty(3, 5, 2),
    "experts": torch.empty(3, 13, 1030),
    "experts-transposed": torch.empty(3, 7, 5),
    "heads": torch.empty(7, 2, 3),
}
TRANSPOSED = ("conv1d", "conv1d-3d")
ROWS = {"experts": (0, 1), "experts-transposed": (0, 2), "heads": (1, 2)} | dict.fromkeys(TRANSPOSED, (1,))


def make_parameters():
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.nn.Parameter(
            torch.empty_strided(like.shape, like.stride()).copy_(torch.randn(like.shape, generator=generator))
        )
        for name, like in LAYOUTS.items()
    }


def laid_out_like(parameters, gradient):
    """Gradients in the memory layout of their parameters, as autograd makes them."""
    return {name: torch.empty_like(parameters[name]).copy_(g) for name, g in gradient.items()}


@pytest.fixture
def served(monkeypatch):
    """Choose the kernels of a test; collects which tensors they took."""

    def choose(module):
        names = set()
        chosen = kernels._kernels_for

        def kernels_for(tensor):
            takes = module is eager_kernels or module.takes(tensor)
            names.update([tensor.name] if takes else [])
            return module if takes else chosen(tensor)

        monkeypatch.setattr(kernels, "_kernels_for", kernels_for)
        return names

    return choose


@pytest.mark.parametrize("name", ["eager", "cpu", SLOW_TRITON])
def test_steps_are_those_of_the_reference(name, served, monkeypatch):
    took = served(KERNELS[name])
    # The interpreter takes as long for a tile of any size; other tests are of those that a GPU has.
    monkeypatch.setattr(triton_kernels, "_TILES", {"TILE": 4096, "SPREAD_TILE": 8192})
    monkeypatch.setattr(cpu_kernels, "_BLOCK_ELEMENTS", triton_kernels._BLOCK_ELEMENTS)
    cpu_kernels._blocks.cache_clear()
    parameters = make_parameters()
    references = {
        key: Reference(p.detach().double(), AdamW(lr=1e-2), kappa=0.9, mu=0.1, row_dim=ROWS.get(key, 0))
        for key, p in parameters.items()
    }
    optimizer = FTPAdamW(parameters.items(), lr=1e-2, kappa=0.9, radius_lr=0.1, rows=ROWS)
    returned = set()
    for gradient in make_gradients(parameters, STEPS):
        train(optimizer, parameters, [laid_out_like(parameters, gradient)])
        radii = optimizer.radii()
        for key, ref in references.items():
            ref.step(gradient[key].double())
            np.testing.assert_allclose(parameters[key].detach(), ref.w, rtol=0, atol=2e-6, err_msg=key)
            assert radii[key].radius == pytest.approx(ref.gamma.item(), rel=1e-4, abs=1e-6), key
            # As exact as the weights of a row are, and a row is no longer than the tensor.
            assert radii[key].deviation == pytest.approx(ref.deviation, abs=2e-6 * gradient[key].numel()), key
            assert radii[key].on_boundary == pytest.approx(ref.on_boundary), key
            if ref.t > 2 and ref.gamma == 1e-8:
                returned.add(key)
    assert returned, "no radius returned to its floor, where the state is another one"
    for key, anchor in optimizer.anchors().items():
        assert np.array_equal(anchor, references[key].w0)
    # Their buffers have no gaps between the elements.
    not_taken = {"spaced-vector", "strided"} if name == "cpu" else set()
    assert took == parameters.keys() - not_taken
    cpu_kernels._blocks.cache_clear()


SHARED = (
    "scalar",
    "vector",
    "spaced-vector",
    "matrix",
    "narrow-rows",
    "short-rows",
    "conv",
    "channels-last",
    "conv1d",
    "heads",
    "strided",
)


@pytest.mark.parametrize("name", ["eager", "cpu", SLOW_TRITON])
def test_radii_that_learn_by_a_share_are_those_of_the_reference(name, served):
    took = served(KERNELS[name])
    parameters = {key: parameter for key, parameter in make_parameters().items() if key in SHARED}
    rows = {key: dims for key, dims in ROWS.items() if key in SHARED}
    references = {
        key: Reference(p.detach().double(), AdamW(), kappa=0.9, row_dim=ROWS.get(key, 0), rho=0.1)
        for key, p in parameters.items()
    }
    optimizer = FTPAdamW(parameters.items(), kappa=0.9, radius_share=0.1, rows=rows)
    for step, gradient in enumerate(make_gradients(parameters, 12)):
        optimizer.param_groups[0]["lr"] = rate = 0.01 * min(step, 11 - step)
        train(optimizer, parameters, [laid_out_like(parameters, gradient)])
        radii = optimizer.radii()
        for key, ref in references.items():
            ref.unconstrained.lr = rate
            ref.step(gradient[key].double())
            np.testing.assert_allclose(parameters[key].detach(), ref.w, rtol=0, atol=2e-6, err_msg=key)
            assert radii[key].radius == pytest.approx(ref.gamma.item(), rel=1e-4, abs=1e-6), key
    assert max(value.radius for value in radii.values()) > 1e-2
    assert len(took) > 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["eager", "cpu", SLOW_TRITON])
def test_narrow_anchors_are_exact_and_follow_the_reference(name, dtype, served):
    served(KERNELS[name])
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(128, 512, generator=generator).mul_(0.05).to(dtype).float())
    parameters, reference = {"w": weight}, Reference(weight.detach().double(), AdamW(lr=1e-4))
    optimizer = FTPAdamW(parameters.items(), lr=1e-4)
    for step, gradient in enumerate(make_gradients(parameters, 6)):
        train(optimizer, parameters, [gradient])
        reference.step(gradient["w"].double())
        held = optimizer.state[weight]["anchor_or_direction"]
        assert held.dtype == dtype
        anchor = optimizer.anchors()["w"]
        assert anchor.dtype == torch.float32
        assert np.array_equal(anchor, reference.w0)
        # At the floor the direction is rounded to 16 bits, which is the reason for doing so in large tensors only.
        assert optimizer.radii()["w"].radius == pytest.approx(reference.gamma.item(), rel=1e-3, abs=1e-8), step
        np.testing.assert_allclose(weight.detach(), reference.w, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["eager", "cpu", SLOW_TRITON])
def test_gradients_in_bfloat16_count_as_in_float32(name, served):
    took = served(KERNELS[name])
    wide = {
        key: torch.nn.Parameter(p.detach().bfloat16().float()) for key, p in make_parameters().items() if key in SHARED
    }
    narrow = {key: torch.nn.Parameter(p.detach().bfloat16()) for key, p in wide.items()}
    rows = {key: dims for key, dims in ROWS.items() if key in SHARED}
    optimizers = [FTPAdamW(each.items(), lr=1e-2, radius_lr=0.1, rows=rows) for each in (narrow, wide)]
    for gradient in make_gradients(narrow, 12):
        for optimizer, parameters in zip(optimizers, (narrow, wide), strict=True):
            as_theirs = {key: value.to(parameters[key].dtype) for key, value in gradient.items()}
            train(optimizer, parameters, [laid_out_like(parameters, as_theirs)])
        assert optimizers[0].radii() == optimizers[1].radii()
        assert all(torch.equal(narrow[key], parameter.bfloat16()) for key, parameter in wide.items())
    assert took


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["eager", "cpu", TRITON])
def test_steps_are_the_same_whatever_the_default_dtype_is(name, default, served):
    took = served(KERNELS[name])
    results = []
    for dtype in (torch.float32, default):
        parameters = {"w": torch.nn.Parameter(torch.randn(20, 30, generator=torch.Generator().manual_seed(0)))}
        gradients = make_gradients(parameters, 6)
        torch.set_default_dtype(dtype)
        try:
            optimizer = FTPAdamW(parameters.items(), lr=1e-2, fused=True)
            train(optimizer, parameters, gradients)
            results.append((parameters["w"].detach(), optimizer.radii()))
        finally:
            torch.set_default_dtype(torch.float32)
    (weight, radii), (other, other_radii) = results
    assert torch.equal(weight, other)
    assert radii == other_radii
    assert took == {"w"}


@pytest.mark.parametrize("name", ["eager", "cpu", TRITON])
def test_a_diverged_row_stays_and_the_others_are_projected(name, served):
    served(KERNELS[name])
    parameters = {"w": torch.nn.Parameter(torch.randn(20, 30))}
    optimizer = FTPAdamW(parameters.items(), lr=1e-2)
    gradients = make_gradients(parameters, 12)
    train(optimizer, parameters, gradients[:3])
    radius = optimizer.radii()["w"].radius
    assert radius > 1e-3
    gradients[3]["w"][4, 7] = torch.nan
    train(optimizer, parameters, gradients[3:4])
    weight = parameters["w"].detach()
    assert optimizer.radii()["w"].radius == radius
    assert torch.nonzero(~weight.isfinite()).tolist() == [[4, 7]]
    distance = (weight - optimizer.anchors()["w"]).abs().sum(dim=1)
    assert (distance[[row for row in range(20) if row != 4]] <= radius + 30 * 1.2e-7).all()


@pytest.mark.parametrize("layout", ["matrix", "conv1d"])
@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=str)
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("name", ["eager", "cpu", TRITON])
def test_a_row_that_diverges_at_the_floor_keeps_its_anchor(name, steps, options, layout, served):
    took = served(KERNELS[name])
    weight = torch.nn.Parameter(torch.randn(LAYOUTS[layout].shape, generator=torch.Generator().manual_seed(0)))
    parameters, before = {"w": weight}, weight.detach().clone()
    rows = {"w": ROWS.get(layout, (0,))}
    optimizer = FTPAdamW(parameters.items(), lr=1e-2, radius_lr=1e-3, rows=rows, **options)
    gradients = make_gradients(parameters, 8)
    train(optimizer, parameters, gradients[:steps])
    gradients[steps]["w"][2, 3] = torch.nan
    train(optimizer, parameters, gradients[steps : steps + 1])
    assert optimizer.state[weight]["radius"][4] == 1
    lost = weight.detach().isnan()
    row = lost[:, 3] if layout == "conv1d" else lost[2]
    assert row.all()
    assert lost.sum() == row.numel()
    assert torch.equal(optimizer.anchors()["w"], before)
    assert not math.isfinite(optimizer.radii()["w"].deviation)

    train(optimizer, parameters, gradients[steps + 1 : steps + 2])
    assert torch.equal(optimizer.anchors()["w"], before)
    optimizer.release_weights()
    assert torch.equal(optimizer.state[weight]["anchor_or_direction"], before)
    assert took == {"w"}


@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("name", ["eager", "cpu", TRITON])
def test_a_step_that_is_interrupted_before_the_projection_loses_no_anchor(name, steps, options, served):
    class Interrupted(FTPAdamW):
        def _unconstrained_step(self):
            super()._unconstrained_step()
            raise KeyboardInterrupt

    took = served(KERNELS[name])
    parameters = {"w": torch.nn.Parameter(torch.randn(20, 30)), "b": torch.nn.Parameter(torch.randn(30))}
    gradients = make_gradients(parameters, 8)
    optimizer = FTPAdamW(parameters.items(), lr=1e-2, radius_lr=1e-3, **options)
    before = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    train(optimizer, parameters, gradients[:steps])
    optimizer.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        train(optimizer, parameters, gradients[steps : steps + 1])
    optimizer.__class__ = FTPAdamW
    assert_equal(optimizer.anchors(), before if steps else {})
    moved = {key: radius.deviation for key, radius in optimizer.radii().items()}
    train(optimizer, parameters, gradients[steps + 1 : steps + 2])
    assert_equal(optimizer.anchors(), before)
    for key, parameter in parameters.items():
        assert steps == 0 or moved[key] > 1e-2
        # ⟨g, d⟩ / ‖d‖₁ of a row is at most as large as its largest gradient.
        bound = sum(gradient[key].abs().sum() ** 2 for gradient in gradients[: steps + 2])
        assert optimizer.state[parameter]["radius"][2] <= 1e-3 * bound
    assert took == parameters.keys()


def test_the_cpu_kernels_do_not_depend_on_the_number_of_threads():
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        parameters = {"w": torch.nn.Parameter(torch.randn(300, 700, generator=torch.Generator().manual_seed(0)))}
        optimizer = FTPAdamW(parameters.items(), lr=1e-2, fused=True)
        train(optimizer, parameters, make_gradients(parameters, 5))
        results.append((parameters["w"].detach(), optimizer.radii()))
    torch.set_num_threads(threads)
    assert all(torch.equal(weight, results[0][0]) and radii == results[0][1] for weight, radii in results)


@INTERPRETED
@pytest.mark.slow
def test_triton_launches_do_not_grow_with_the_number_of_tensors(served, monkeypatch):
    served(triton_kernels)
    launched, dispatched = [], []

    class CountLaunches:
        def __init__(self, name):
            self.name, self.kernel = name, getattr(triton_kernels, name)

        def __getitem__(self, grid):
            launched.append(self.name)
            return self.kernel[grid]

    class CountOperations(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            dispatched[-1].update([] if func is torch.ops.aten.detach.default else [str(func)])
            return func(*args, **(kwargs or {}))

    for name in LAUNCHES:
        monkeypatch.setattr(triton_kernels, name, CountLaunches(name))
    for count in (3, 60):
        parameters = {f"w{i}": torch.nn.Parameter(torch.randn(3, 2 + i % 5)) for i in range(count)}
        optimizer = FTPAdamW(parameters.items(), lr=1e-2, fused=True)
        gradients = make_gradients(parameters, 3)
        train(optimizer, parameters, gradients[:2])
        for name, parameter in parameters.items():
            parameter.grad = gradients[2][name]
        launched.clear()
        dispatched.append(Counter())
        with CountOperations():
            optimizer.step()
        assert launched == LAUNCHES
    # Nor do torch's own operations; the interpreter makes a few of its own for each launch.
    assert dispatched[0] == dispatched[1]


@pytest.mark.slow
def test_the_triton_kernels_compile_for_a_gpu():
    # The interpreter takes what the compiler does not, nor what makes a launch of a kernel's parameters; neither needs a
    # device. In a process of its own, because the interpreter is chosen when Triton is imported.
    script = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile, make_backend
from triton.runtime.jit import create_function_from_signature
from ftp_hf.projection.kernels import cuda as ours

TARGET = GPUTarget("cuda", 90, 32)
TILE, BLOCK = {name: size for name, size in ours._TILES.items() if name != "num_warps"}, {"BLOCK": 128}
for kernel, types, constants in (
    (ours._radius_gradient_kernel, ["*i64", "*i64", "*i64", "*fp32", "*fp32"], TILE | {"MOVES": False}),
    (ours._radius_gradient_kernel, ["*i64", "*i64", "*i64", "*fp64", "*fp32"], TILE | {"MOVES": True}),
    (ours._sum_kernel, ["*i64", "*i64", "*fp32", "*fp32"], BLOCK),
    (ours._max_kernel, ["*i64", "*fp32", "*fp32"], BLOCK),
    (ours._learn_kernel, ["*i64", "*fp32", "*fp64", "*fp64"], {"OWN": False}),
    (ours._learn_kernel, ["*i64", "*fp32", "*fp64", "*fp64"], {"OWN": True}),
    (ours._project_kernel, ["*i64", "*i64", "*fp32", "*fp32", "*fp32"], TILE | {"PROJECT": False}),
    (ours._project_kernel, ["*i64", "*i64", "*fp32", "*fp32", "*fp32"], TILE | {"PROJECT": True}),
    (ours._settle_kernel, ["*i64", "*i64", "*fp32", "*fp32"], BLOCK | {"IS_WHOLE": False}),
    (ours._settle_kernel, ["*i64", "*i64", "*fp32", "*fp32"], BLOCK | {"IS_WHOLE": True}),
):
    signature = dict(zip(kernel.arg_names, types)) | dict.fromkeys(constants, "constexpr")
    create_function_from_signature(kernel.signature, kernel.params, make_backend(TARGET))
    compiled = compile(ASTSource(kernel, signature, constants), target=TARGET)
    assert len(compiled.asm["cubin"]) > 1000
    print(kernel.__name__)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 10
