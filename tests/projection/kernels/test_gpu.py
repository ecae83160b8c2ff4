"""On a CUDA device: the same results as on the CPU, without a wait, in few launches, in a graph."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.profiler import ProfilerActivity, profile

from ftp_hf import FTPAdamW
from ftp_hf.projection.adamw_step import adamw_steps
from tests.support import adamw
from tests.support.problems import LOOP, make_gradients, make_parameters, train

cuda_kernels = pytest.importorskip("ftp_hf.projection.kernels.cuda")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

OPTIONS = {
    "float32": {},
    "transposed": {"transposed": ["conv1d.weight"]},
    "anchors in host memory": {"anchor_device": "cpu"},
}


def on_gpu(parameters):
    return {name: torch.nn.Parameter(parameter.detach().cuda()) for name, parameter in parameters.items()}


def feed(parameters, gradient):
    for name, parameter in parameters.items():
        parameter.grad = gradient[name].cuda()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_steps_are_those_of_the_cpu(options, dtype):
    cpu = {name: torch.nn.Parameter(p.detach().to(dtype)) for name, p in make_parameters(torch.float32).items()}
    gpu = on_gpu(cpu)
    optimizers = [FTPAdamW(p.items(), lr=1e-2, fused=True, **options) for p in (cpu, gpu)]
    for gradient in make_gradients(cpu, 30):
        train(optimizers[0], cpu, [gradient])
        feed(gpu, gradient)
        optimizers[1].step()
    for name, parameter in cpu.items():
        torch.testing.assert_close(gpu[name].cpu(), parameter, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-2)
    for name, radius in optimizers[0].radii().items():
        assert optimizers[1].radii()[name].radius == pytest.approx(radius.radius, abs=1e-4)
    if "anchor_device" in options:
        assert all(state["anchor_or_direction"].is_pinned() for state in optimizers[1].state.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", adamw.OPTIONS.values(), ids=adamw.OPTIONS)
@pytest.mark.parametrize(("shape", "rows"), adamw.SHAPES.values(), ids=adamw.SHAPES)
@torch.no_grad()
def test_adamw_steps_are_those_of_torch(shape, rows, options, dtype):
    with torch.enable_grad():
        weight, tensor = adamw.trained(shape, options, dtype, rows, device="cuda")
    expected, untouched = adamw.step_of_torch(tensor, options), adamw.copied(tensor)
    gradients = cuda_kernels.radius_gradients([tensor], adamw_steps([tensor]))
    assert torch.equal(gradients, cuda_kernels.radius_gradients([untouched]))
    found = [weight.detach(), *(tensor.state[key] for key in ("step", "exp_avg", "exp_avg_sq"))]
    for ours, theirs in zip(found, expected, strict=True):
        # Up to torch 2.11 its constants are in float64, and with a second moment of one gradient the steps are up to lr.
        torch.testing.assert_close(ours, theirs, rtol=2.4e-7, atol=1e-6 if "lr" in options else 2.4e-7)


@contextmanager
def waits_are_errors():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_does_not_wait_for_the_device():
    parameters = on_gpu(make_parameters(torch.float32))
    optimizer = FTPAdamW(parameters.items(), fused=True)
    gradients = make_gradients(make_parameters(torch.float32), 4)
    for step, gradient in enumerate(gradients):
        feed(parameters, gradient)
        with waits_are_errors() if step else nullcontext():
            optimizer.step()


def test_launches_of_a_step():
    launches = []
    for count in (10, 200):
        parameters = {f"w{i}": torch.nn.Parameter(torch.randn(64, 64, device="cuda")) for i in range(count)}
        optimizer = FTPAdamW(parameters.items(), fused=True)
        for _ in range(3):
            for parameter in parameters.values():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            optimizer.step()
        names = [event.name for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        launches.append(len([name for name in names if not name.startswith("Mem")]))
    assert max(launches) <= 12, launches


def test_a_captured_step_replays():
    eager, captured = on_gpu(make_parameters(torch.float32)), on_gpu(make_parameters(torch.float32))
    gradients = make_gradients(make_parameters(torch.float32), 12)
    reference = FTPAdamW(eager.items(), lr=1e-2, capturable=True, **LOOP)
    optimizer = FTPAdamW(captured.items(), lr=1e-2, capturable=True, **LOOP)
    for parameter in captured.values():
        parameter.grad = torch.zeros_like(parameter)

    def copy_gradient(gradient):
        for name, parameter in captured.items():
            parameter.grad.copy_(gradient[name])

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for gradient in gradients[:3]:
            copy_gradient(gradient)
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for gradient in gradients[3:]:
        copy_gradient(gradient)
        graph.replay()
    for gradient in gradients:
        feed(eager, gradient)
        reference.step()
    for name, parameter in eager.items():
        torch.testing.assert_close(captured[name], parameter, rtol=0, atol=1e-6)


@pytest.fixture
def mesh(tmp_path):
    """Of one process, which sends what it has to itself."""
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield init_device_mesh("cuda", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("device", ["cuda", "cpu"], ids=["on the device", "offloaded as by FSDP2"])
def test_sharded_steps_are_those_of_the_cpu(mesh, device):
    whole = make_parameters(torch.float32)
    del whole["scale"]  # FSDP2 shards no scalars

    def shard(tensor):
        return distribute_tensor(tensor.detach().cuda(), mesh, [Shard(0)]).to(device)

    shards = {name: torch.nn.Parameter(shard(parameter)) for name, parameter in whole.items()}
    optimizers = [FTPAdamW(parameters.items(), lr=1e-2, fused=True) for parameters in (whole, shards)]
    for gradient in make_gradients(whole, 30):
        train(optimizers[0], whole, [gradient])
        for name, parameter in shards.items():
            parameter.grad = shard(gradient[name])
        optimizers[1].step()
    for name, parameter in whole.items():
        local = shards[name].to_local()
        assert local.device.type == optimizers[1].state[shards[name]]["anchor_or_direction"].device.type == device
        torch.testing.assert_close(local.cpu(), parameter, rtol=0, atol=1e-5)
    for name, radius in optimizers[0].radii().items():
        assert optimizers[1].radii()[name].radius == pytest.approx(radius.radius, abs=1e-4)
