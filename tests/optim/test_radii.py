"""What `radii()` tells, and that neither it nor a step waits for the device."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ftp_hf import FTPSGD, FTPAdamW
from ftp_hf.optim.restart import restart_radii
from tests.support.problems import make_gradients, make_parameters, train


def test_radii_without_names_go_by_position():
    parameters = list(make_parameters().values())
    optimizer = FTPAdamW([{"params": parameters[:2]}, {"params": parameters[2:]}])
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert list(optimizer.radii()) == ["0.0", "0.1", "1.0", "1.1", "1.2", "1.3"]


def test_radii_without_names_start_anew():
    parameters = make_parameters()
    optimizer = FTPAdamW(parameters.values(), lr=1e-2)
    train(optimizer, parameters, make_gradients(parameters, 3))
    before = optimizer.radii()
    restart_radii(optimizer)
    for name, radius in optimizer.radii().items():
        assert radius.radius == pytest.approx(before[name].deviation, abs=2e-8)
        assert radius.deviation == before[name].deviation
    assert all(optimizer.state[p]["radius"][1:4].tolist() == [0, 0, 1] for p in parameters.values())


def test_radii_names_are_free_of_wrapper_prefixes():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    named = [(f"module._orig_mod.{name}", parameter) for name, parameter in model.named_parameters()]
    optimizer = FTPAdamW(named, exclude=["1.*"])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert set(optimizer.radii()) == {"0.weight", "0.bias"}


def test_on_boundary_is_the_share_of_rows_that_were_projected():
    # SGD with lr 1 moves W to -g. Radius 1 after step 2 is set by hand; rows of norm 0.5, 1.5 and 4 meet it at step 3.
    parameter = torch.nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    optimizer = FTPSGD([("w", parameter)], lr=1.0, radius_lr=0.0)
    train(optimizer, {"w": parameter}, [{"w": torch.ones(3, 2, dtype=torch.float64)}])
    optimizer.state[parameter]["radius"][0] = 1.0
    with torch.no_grad():
        parameter.zero_()
    train(
        optimizer, {"w": parameter}, [{"w": -torch.tensor([[0.5, 0.0], [0.5, 1.0], [0.0, 4.0]], dtype=torch.float64)}]
    )
    np.testing.assert_allclose(optimizer.radii()["w"], (1.0, 1.0, 2 / 3), rtol=0, atol=1e-7)


@pytest.mark.parametrize("make", [FTPSGD, FTPAdamW])
def test_a_step_never_waits_for_the_device(make):
    # Reading a value of a tensor without data, as a transfer to the host would, is an error.
    parameters = {name: torch.nn.Parameter(p.detach().to("meta")) for name, p in make_parameters().items()}
    optimizer = make(parameters.items(), foreach=False)
    for _ in range(3):
        for parameter in parameters.values():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
    assert {parameter.device.type for parameter in optimizer.anchors().values()} == {"meta"}


def test_radii_transfer_once_for_all_parameters(monkeypatch):
    parameters = make_parameters(torch.float32)
    optimizer = FTPAdamW(parameters.items())
    train(optimizer, parameters, make_gradients(parameters, 3))
    transfers = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
                transfers.append(str(func))
            return func(*args, **(kwargs or {}))

    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: transfers.append("tolist") or tolist(tensor))
    with Count():
        radii = optimizer.radii()
    assert len(radii) == len(parameters)
    assert transfers == ["tolist"]


def test_radii_of_mixed_precisions():
    parameters = {
        "a": torch.nn.Parameter(torch.zeros(2, 2)),
        "b": torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)),
    }
    optimizer = FTPSGD(parameters.items(), lr=1.0)
    gradient = {name: torch.ones_like(parameter) for name, parameter in parameters.items()}
    train(optimizer, parameters, [gradient] * 2)
    # The moments of the first step are zero, but it counts in the bias correction.
    radius = 1e-2 * (0.1 / (1 - 0.9**2)) / (0.001 / (1 - 0.999**2)) ** 0.5
    for name in parameters:
        np.testing.assert_allclose(optimizer.radii()[name], (radius, radius, 1.0), rtol=1e-5)
