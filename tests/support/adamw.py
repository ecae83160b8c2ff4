"""AdamW's step of one tensor, by torch and in the pass of the radius gradient."""

import copy

import torch

from ftp_hf import FTPAdamW
from ftp_hf.projection.tensor import ProjectedTensor

OPTIONS = {
    "defaults": {},
    "decay": {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-6},
    "maximize": {"maximize": True, "weight_decay": 0.01},
    "no moments": {"betas": (0.6, 0.0), "lr": 0.3},
    "tensors": {"lr": torch.tensor(1e-2)},
}
SHAPES = {
    "matrix": ((48, 64), 0),
    "long rows": ((2, 4096 + 1024), 0),
    "ends": ((7, 9), 0),
    "scalar": ((), 0),
    "columns": ((600, 48), 1),
    "conv": ((4, 4, 3, 3), 1),
}
"""Shapes, and the dimension that counts rows."""


def trained(shape, options, dtype=torch.float32, rows=0, device="cpu"):
    """A parameter, and its tensor with the state after two steps of an FTPAdamW and another gradient."""
    generator = torch.Generator().manual_seed(0)

    def drawn():
        return torch.randn(shape, generator=generator).to(device, dtype)

    parameter = torch.nn.Parameter(drawn())
    optimizer = FTPAdamW([("w", parameter)], fused=True, **options, transposed=["w"] if rows else [])
    for _ in range(2):
        parameter.grad = drawn()
        optimizer.step()
    parameter.grad = drawn()
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


def copied(tensor):
    """A copy with a gradient of its own, which that of a parameter does not have."""
    copy_ = copy.deepcopy(tensor)
    copy_.source.grad = tensor.source.grad.clone()
    return copy_
