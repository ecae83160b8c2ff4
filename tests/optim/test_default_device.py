"""torch's default device is that of new tensors alone: a step computes where the weights are, whatever it is."""

import pytest
import torch

from ftp_hf import FTP, FTPAdamW
from ftp_hf.projection.kernels import cpu
from tests.support.equal import assert_equal
from tests.support.problems import PROJECTED, UPDATE, make_factors, make_gradients, make_parameters, train

KINDS = {
    **PROJECTED,
    "FTP-fused": lambda params, **ours: FTP(torch.optim.AdamW(params, lr=1e-2, fused=True), **ours),
    "radius_share": lambda params, **ours: FTPAdamW(params, lr=1e-2, fused=True, radius_share=0.1, **ours),
    "stochastic_rounding": lambda params, **ours: FTPAdamW(
        params, lr=1e-2, fused=True, stochastic_rounding=True, **ours
    ),
}
BEGIN_ELSEWHERE = {"FTPAdamW-foreach", "FTPAdamW-amsgrad", "FTP-AdamW", "FTP-RAdam", "FTP-Adafactor"}
"""torch creates their count of steps on the default device, where it cannot read it."""


def trained(make, parameters, first, device):
    gradients = make_gradients(parameters, 8)
    cpu._blocks.cache_clear()
    with torch.device(first):
        optimizer = make(parameters.items())
        train(optimizer, parameters, gradients[:1])
    with torch.device(device):
        train(optimizer, parameters, gradients[1:4])
        optimizer.load_state_dict(optimizer.state_dict())
        train(optimizer, parameters, gradients[4:])
        return parameters, optimizer.radii()


def assert_the_same(make, make_all, dtype, first="meta"):
    usual, usual_radii = trained(make, make_all(dtype), "cpu", "cpu")
    other, radii = trained(make, make_all(dtype), first, "meta")
    assert_equal(other, usual)
    assert radii == usual_radii


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_steps_are_the_same_under_another(name, dtype):
    assert_the_same(KINDS[name], make_parameters, dtype, "cpu" if name in BEGIN_ELSEWHERE else "meta")


def test_so_are_those_of_low_rank_updates():
    assert_the_same(lambda params: FTPAdamW(params, lr=1e-2, fused=True, low_rank=UPDATE), make_factors, torch.float32)
