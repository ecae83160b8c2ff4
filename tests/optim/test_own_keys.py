"""Optimizers that have an option of their own under a name of the projection's."""

import copy

import pytest
import torch

from ftp_hf import FTP
from ftp_hf.optim.describe import describe_optimizer
from tests.support.equal import assert_equal


class Scaled(torch.optim.Optimizer):
    """Descends by `lr · kappa`, in one direction of `project`."""

    def __init__(self, params, lr=0.1, kappa=0.5, project="down"):
        super().__init__(params, {"lr": lr, "kappa": kappa, "project": project})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            assert group["project"] in ("down", "up")
            for parameter in group["params"]:
                sign = -1 if group["project"] == "down" else 1
                parameter.add_(parameter.grad, alpha=sign * group["lr"] * group["kappa"])


def steps(optimizer, parameters, count=3):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def make(kappa=0.5, project="down", **options):
    weight, head = (torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    wrapped = Scaled([("weight", weight), ("head", head)], kappa=kappa, project=project)
    return FTP(wrapped, exclude=["head"], **options), [weight, head]


@pytest.mark.parametrize("own", [0.5, 1000.0])
def test_the_option_of_the_optimizer_stays_its_own(own):
    optimizer, (weight, head) = make(kappa=own)
    plain = torch.nn.Parameter(torch.ones(3, 2))
    other = torch.nn.Parameter(torch.ones(3, 2))
    steps(optimizer, [weight, head])
    steps(Scaled([other, plain], kappa=own), [other, plain])
    assert torch.equal(head, plain)
    assert (optimizer.param_groups[0]["kappa"], optimizer.param_groups[0]["project"]) == (1.0, True)
    assert optimizer.radii().keys() == {"weight"}
    assert f"kappa={own}" in describe_optimizer(optimizer)


def test_the_option_of_the_projection_is_the_projections():
    (one, weights), (other, others) = make(), make()
    other.param_groups[0]["kappa"] = 0.0
    assert not torch.equal(steps(one, weights, 9)[0], steps(other, others, 9)[0])


def test_state_dicts_groups_and_copies_keep_both():
    optimizer, parameters = make(kappa=7.0, project="up")
    steps(optimizer, parameters)
    state = copy.deepcopy(optimizer.state_dict())
    clone, others = make(kappa=3.0)
    with torch.no_grad():
        for mine, theirs in zip(others, parameters, strict=True):
            mine.copy_(theirs)
    clone.load_state_dict(state)
    assert clone.param_groups[0]["wrapped_kappa"] == 7.0
    assert_equal(steps(clone, others), steps(optimizer, parameters))

    earlier = copy.deepcopy(state)  # as it was saved when there was one key for both
    earlier["param_groups"][0].pop("wrapped_kappa")
    clone.load_state_dict(earlier)
    assert clone.param_groups[0]["wrapped_kappa"] == 7.0

    late = torch.nn.Parameter(torch.ones(2, 2))
    optimizer.add_param_group({"params": [("late", late)], "kappa": 0.25})
    group = optimizer.param_groups[-1]
    assert (group["kappa"], group["wrapped_kappa"], group["project"]) == (0.25, 7.0, True)
