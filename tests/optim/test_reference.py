"""The reference itself, against every recorded trajectory of the published method, in float64."""

import numpy as np
import pytest
import torch

from ftp_hf.optim.reference import SGD, AdamW, Reference
from tests.support.trajectories import GOLDEN, MANIFEST, TOLERANCE


class AMSGrad:
    """torch's, which is no part of the method."""

    def __init__(self):
        self.lr = 1e-3
        self.optimizer = None

    def step(self, w, g):
        if self.optimizer is None:
            self.parameter = torch.nn.Parameter(w.clone())
            self.optimizer = torch.optim.AdamW([self.parameter], weight_decay=0.0, amsgrad=True)
        self.parameter.data.copy_(w)
        self.parameter.grad = g
        self.optimizer.param_groups[0]["lr"] = self.lr
        self.optimizer.step()
        return self.parameter.detach().clone()


def unconstrained(settings):
    options = {key: value for key, value in settings.items() if key not in ("optimizer", "kappa", "steps", "dtype")}
    if options.pop("amsgrad", False):
        return AMSGrad()
    return {"FTPAdamW": AdamW, "FTPSGD": SGD}[settings["optimizer"]](**options)


@pytest.mark.parametrize("name", MANIFEST)
def test_the_reference_takes_the_steps_of_the_published_method(name):
    settings = MANIFEST[name]
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = {key: torch.tensor(value).double() for key, value in file.items()}
    close = {"rtol": 0, "atol": TOLERANCE[settings["dtype"]]}
    names = [key.removeprefix("init/") for key in golden if key.startswith("init/")]
    assert any(f"gamma/{key}" in golden for key in names)
    for key in names:
        w, plain = golden[f"init/{key}"], unconstrained(settings)
        projected = Reference(w, plain, kappa=settings["kappa"]) if f"gamma/{key}" in golden else None
        for t in range(settings["steps"]):
            plain.lr = golden["lr"][t].item()
            if projected is None:
                w = plain.step(w, golden[f"grad/{key}"][t])
            else:
                projected.step(golden[f"grad/{key}"][t])
                w = projected.w
                torch.testing.assert_close(projected.gamma, golden[f"gamma/{key}"][t], **close)
            torch.testing.assert_close(w, golden[f"weight/{key}"][t], **close)
