"""Bytes a parameter, counted from the tensors that are alive and from what the allocator was asked for."""

import pytest
import torch
from torch.profiler import profile

from ftp_hf import FTP, FTPAdamW

# The six of some transformer's layers, as large as to hide what is per tensor, not per parameter.
SHAPES = 4 * ([(512, 512)] * 4 + [(2048, 512), (512, 2048)] + [(512,)] * 6)


def make(dtype, checkpoint_dtype):
    torch.manual_seed(0)
    weights = [torch.randn(shape).to(checkpoint_dtype) for shape in SHAPES]
    return [torch.nn.Parameter(weight.to(dtype)) for weight in weights]


def at_rest(optimizer, parameters):
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    tensors = [*parameters, *[parameter.grad for parameter in parameters], *state]
    # By storage, so that a tensor that hangs on to a larger one is not overlooked.
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) / sum(parameter.numel() for parameter in parameters)


def peak_of_a_step(optimizer, parameters):
    """The most bytes a parameter that were alive during a step, besides those alive before it."""
    with profile(profile_memory=True) as profiler:
        optimizer.step()
    alive = most = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most / sum(parameter.numel() for parameter in parameters)


OPTIMIZERS = {
    "FTPAdamW": lambda parameters, **ours: FTPAdamW(parameters, lr=1e-3, fused=True, **ours),
    "FTP-AdamW": lambda parameters, **ours: FTP(torch.optim.AdamW(parameters, lr=1e-3, fused=True), **ours),
}


@pytest.mark.parametrize(
    ("dtype", "checkpoint_dtype", "options", "state", "peak"),
    [
        (torch.float32, torch.float32, {}, 20.5, 20.5),
        (torch.float32, torch.bfloat16, {}, 18.5, 18.5),
        (torch.float32, torch.float16, {}, 18.5, 18.5),
        # The gradients are widened a piece at a time.
        (torch.bfloat16, torch.bfloat16, {}, 18.5, 18.5),
        # Weights and moments, too.
        pytest.param(
            *(torch.bfloat16, torch.bfloat16, {"stochastic_rounding": True}, 10.5, 12.0),
            marks=pytest.mark.slow,
            id="rounded",
        ),
    ],
    ids=lambda value: str(value).removeprefix("torch."),
)
@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_bytes_a_parameter(make_optimizer, dtype, checkpoint_dtype, options, state, peak, monkeypatch):
    monkeypatch.setattr("ftp_hf.optim.masters._PIECE_ELEMENTS", 2**20)
    parameters = make(dtype, checkpoint_dtype)
    optimizer = make_optimizer(parameters, **options)
    for step in range(4):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        before = at_rest(optimizer, parameters)
        most = peak_of_a_step(optimizer, parameters)
        assert before + most <= peak, f"step {step}: {before:.2f} before, {most:.2f} during"
        assert at_rest(optimizer, parameters) <= state, f"step {step}"
    assert at_rest(optimizer, parameters) > state - 1


def test_the_counters_see_what_torchs_adamw_takes():
    parameters = make(torch.float32, torch.float32)
    optimizer = torch.optim.AdamW(parameters, fused=True)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    assert peak_of_a_step(optimizer, parameters) == pytest.approx(8, abs=0.1)
    assert at_rest(optimizer, parameters) == pytest.approx(16, abs=0.1)
