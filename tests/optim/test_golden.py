"""Every recorded trajectory of the published method, step by step."""

import numpy as np
import pytest
import torch

from ftp_hf import FTP, FTPSGD, FTPAdamW
from tests.support.problems import IMPLEMENTATIONS
from tests.support.trajectories import GOLDEN, MANIFEST, TOLERANCE

CLASSES = {"FTPAdamW": (FTPAdamW, torch.optim.AdamW), "FTPSGD": (FTPSGD, torch.optim.SGD)}


def test_the_manifest_lists_every_file():
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(MANIFEST)


@pytest.mark.parametrize("wrapped", [False, True], ids=["class", "FTP"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", MANIFEST)
def test_golden_trajectory(name, implementation, wrapped):
    # A setting that the manifest leaves out is FTPAdamW's default.
    settings = {"weight_decay": 0.0, **MANIFEST[name], **IMPLEMENTATIONS[implementation]}
    steps, dtype, kappa = settings.pop("steps"), settings.pop("dtype"), settings.pop("kappa")
    projecting, plain = CLASSES[settings.pop("optimizer")]
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    parameters = {
        key.removeprefix("init/"): torch.nn.Parameter(torch.tensor(value))
        for key, value in golden.items()
        if key.startswith("init/")
    }
    ours = {"kappa": kappa, "exclude": ["head.*"]}
    if wrapped:
        optimizer = FTP(plain(parameters.items(), **settings), **ours)
    else:
        optimizer = projecting(parameters.items(), **settings, **ours)

    names = [key.removeprefix("gamma/") for key in golden if key.startswith("gamma/")]
    weights = {key: [] for key in parameters}
    radii = {key: [] for key in names}
    for step in range(steps):
        for key, parameter in parameters.items():
            parameter.grad = torch.tensor(golden[f"grad/{key}"][step])
        for group in optimizer.param_groups:
            group["lr"] = float(golden["lr"][step])
        optimizer.step()
        for key, radius in optimizer.radii().items():
            radii[key].append(radius.radius)
        for key, parameter in parameters.items():
            weights[key].append(parameter.detach().numpy().copy())

    tolerance = {"rtol": 0, "atol": TOLERANCE[dtype]}
    for key, trajectory in weights.items():
        assert trajectory[0].dtype == dtype
        np.testing.assert_allclose(trajectory, golden[f"weight/{key}"], **tolerance, err_msg=f"weight of {key}")
    for key, trajectory in radii.items():
        np.testing.assert_allclose(trajectory, golden[f"gamma/{key}"], **tolerance, err_msg=f"radius of {key}")
