"""
Steps on tensors that are sharded over the processes, beside the same steps on whole tensors; what they differ by goes
to OUTPUT/rank{R}.json.

    torchrun --nproc_per_node 2 sharded_steps.py OUTPUT
"""

import json
import os
import sys
from pathlib import Path
from unittest import mock

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from ftp_hf import FTPSGD, FTPAdamW, LowRankProduct, LowRankUpdate
from ftp_hf.projection import sharding
from ftp_hf.projection.kernels import cuda as triton_kernels
from ftp_hf.projection.kernels import dispatch as kernels
from ftp_hf.projection.kernels import eager as eager_kernels
from ftp_hf.projection.sharding import local, whole_tensors
from tests.support import process_groups
from tests.support.problems import PROJECTED, make_gradients
from tests.support.trajectories import GOLDEN, MANIFEST

# Fewer rows than processes, as many, more, and a number that does not divide; single rows; and what makes row blocks.
SHAPES = {
    "one-row.weight": (1, 7),
    "two-rows.weight": (2, 5),
    "four-rows.weight": (4, 3),
    "uneven.weight": (7, 5),
    "conv.weight": (5, 3, 2, 2),
    "long.weight": (37, 1800),
    "bias": (6,),
    "short.bias": (3,),
    "single.bias": (1,),
    "conv1d.weight": (5, 9),
    "head.weight": (3, 6),
}
OPTIONS = {"exclude": ["head.*"], "transposed": ["conv1d.*"]}
# Ends in the part of the first process, in another one's, and between two of them.
PRETRAINED_ROWS = {"two-rows.weight": 1, "four-rows.weight": 2, "uneven.weight": 6, "long.weight": 11, "bias": 4}


def sharded(tensor, name, mesh):
    dim = 1 if name.startswith("conv1d") else 0
    placements = [Shard(dim)] if mesh.ndim == 1 else [Replicate(), Shard(dim)]
    # All processes have the same tensor, and need not send it.
    return distribute_tensor(tensor.detach(), mesh, placements, src_data_rank=None)


class Twins:
    """The same parameters and optimizer, once in shards and once whole."""

    def __init__(self, parameters, make_optimizer, mesh):
        self.mesh = mesh
        self.shards = {name: torch.nn.Parameter(sharded(p, name, mesh)) for name, p in parameters.items()}
        self.wholes = {name: torch.nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
        self.sharded, self.whole = make_optimizer(self.shards.items()), make_optimizer(self.wholes.items())
        self.collectives = []

    def step(self, gradients):
        for name, gradient in gradients.items():
            self.shards[name].grad = None if gradient is None else sharded(gradient, name, self.mesh)
            self.wholes[name].grad = None if gradient is None else gradient.clone()
        with CommDebugMode() as counter:
            self.sharded.step()
        self.collectives.append(counter.get_total_counts())
        self.whole.step()

    def difference(self):
        radii, expected = self.sharded.radii(), self.whole.radii()
        anchors, anchors_expected = self.sharded.anchors(), self.whole.anchors()
        assert list(radii) == list(expected)
        assert radii
        return {
            "weight": max(relative(self.shards[name].full_tensor(), whole) for name, whole in self.wholes.items()),
            "radius": max(abs(radii[n].radius - expected[n].radius) for n in radii),
            "deviation": max(abs(radii[n].deviation - expected[n].deviation) for n in radii),
            "on_boundary": max(abs(radii[n].on_boundary - expected[n].on_boundary) for n in radii),
            "anchor": max(float((anchors[n].full_tensor() - anchors_expected[n]).abs().max()) for n in radii),
        }


def relative(value, expected):
    return float((value.detach() - expected.detach()).norm() / expected.detach().norm())


def worst(differences):
    return {key: max(difference[key] for difference in differences) for key in differences[0]}


def make_parameters(dtype):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


def compare(make_optimizer, mesh, dtype=torch.float32, steps=16):
    parameters = make_parameters(dtype)
    twins = Twins(parameters, lambda params: make_optimizer(params, **OPTIONS), mesh)
    differences = []
    for number, gradients in enumerate(make_gradients(parameters, steps)):
        if number == steps // 3:
            gradients["uneven.weight"] = gradients["bias"] = None
        twins.step(gradients)
        differences.append(twins.difference())
    at_floor = [radius.radius <= 1e-8 for radius in twins.whole.radii().values()]
    return worst(differences) | {"collectives": twins.collectives, "at_floor": sum(at_floor)}


def from_elsewhere(params, **ours):
    """Training that starts away from explicit anchors."""
    anchors = {name: weight + 0.01 for name, weight in make_parameters(torch.float32).items()}
    return FTPAdamW(params, lr=1e-2, anchors=anchors, **ours)


def resized(params, **ours):
    """Parameters whose last rows are new."""
    return FTPAdamW(params, lr=1e-2, pretrained_rows=PRETRAINED_ROWS, **ours)


def resized_from_elsewhere(params, **ours):
    """The same, from anchors of the old rows alone."""
    anchors = {
        name: (weight + 0.01)[: PRETRAINED_ROWS.get(name)] for name, weight in make_parameters(torch.float32).items()
    }
    return resized(params, anchors=anchors, **ours)


def by_share(params, **ours):
    """Radii that learn by a share of whole rows."""
    return resized(params, radius_share=0.05, **ours)


def factors_by_share(mesh):
    """The radius of an update in factors, whose reach takes the whole right factor, and how far shards come from it."""
    update = LowRankUpdate("w", (LowRankProduct("b", "a", 2.0),))
    factors = {"b": torch.zeros(7, 2), "a": torch.randn(2, 5, generator=torch.Generator().manual_seed(0))}
    options = {"lr": 1e-2, "radius_share": 0.05, "low_rank": [update]}
    twins = Twins(factors, lambda params: FTPAdamW(params, **options), mesh)
    differences = []
    for gradients in make_gradients(factors, 8):
        twins.step(gradients)
        radius, expected = (optimizer.radii()["w"].radius for optimizer in (twins.sharded, twins.whole))
        differences.append(abs(radius - expected))
    return {"difference": max(differences), "radius": expected}


def sent_by_a_step(mesh):
    """How much one process sends in a later step."""
    parameters = {
        name: torch.nn.Parameter(sharded(p, name, mesh)) for name, p in make_parameters(torch.float32).items()
    }
    optimizer = FTPAdamW(parameters.items(), lr=1e-2, **OPTIONS)
    sizes = []
    gather = getattr(dist, sharding._ALL_GATHER)

    def counting(received, sent, **options):
        sizes.append(sent.nbytes)
        return gather(received, sent, **options)

    for _ in range(2):
        for parameter in parameters.values():
            parameter.grad = torch.ones_like(parameter)
        sizes.clear()
        with mock.patch.object(dist, sharding._ALL_GATHER, counting):
            optimizer.step()
    return {"tensors": len(optimizer.radii()), "bytes": sum(sizes)}


def gathered_together(mesh):
    """Whether shards of all shapes come together as the tensors that they were cut from, and in how many collectives."""
    generator = torch.Generator().manual_seed(0)
    wholes = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    shards = [sharded(whole, name, mesh) for name, whole in wholes.items()]
    halves = [distribute_tensor(whole.bfloat16(), mesh, [Shard(whole.ndim - 1)]) for whole in wholes.values()]
    others = [torch.ones(3), distribute_tensor(torch.ones(3), mesh, [Replicate()])]
    with CommDebugMode() as counter:
        found = whole_tensors([*shards, *halves, *others])
    expected = [*wholes.values(), *(whole.bfloat16() for whole in wholes.values()), torch.ones(3), torch.ones(3)]
    equal = [torch.equal(tensor, whole) for tensor, whole in zip(found, expected, strict=True)]
    return {"equal": all(equal), "tensors": len(equal), "collectives": counter.get_total_counts()}


def scaled_steps(mesh):
    """Whether each of four steps under a GradScaler changed anything, the third with an overflow on the first process."""
    parameter = torch.nn.Parameter(sharded(torch.ones(4, 3), "w", mesh))
    optimizer = FTPAdamW({"w": parameter}.items(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones(()))
    changed = []
    for step in range(4):
        gradient = torch.full((4, 3), 4.0)
        if step == 2:
            gradient[0, 0] = torch.inf
        parameter.grad = sharded(gradient, "w", mesh)
        before = [local(tensor).clone() for tensor in (parameter.detach(), *optimizer.state[parameter].values())]
        scaler.step(optimizer)
        scaler.update()
        after = [local(tensor) for tensor in (parameter.detach(), *optimizer.state[parameter].values())]
        changed.append(len(before) != len(after) or not all(map(torch.equal, before, after)))
    return changed


def refusals(mesh):
    """What is said of tensors that cannot be projected in shards."""
    whole = torch.randn(4, 6)
    said = {}
    for name, placement in {"columns": Shard(1), "partial": Partial()}.items():
        parameter = torch.nn.Parameter(DTensor.from_local(whole, mesh, [placement]))
        try:
            FTPAdamW({"w": parameter}.items())
        except ValueError as error:
            said[name] = str(error)
    single, shards = (FTPAdamW({"w": torch.nn.Parameter(w)}.items()) for w in (whole, sharded(whole, "w", mesh)))
    single.param_groups[0]["params"][0].grad = torch.ones_like(whole)
    single.step()
    try:
        shards.load_state_dict(single.state_dict())
    except ValueError as error:
        said["whole state"] = str(error)
    return said


def golden(name, mesh):
    settings = {"weight_decay": 0.0, **MANIFEST[name]}
    steps, _, kappa = settings.pop("steps"), settings.pop("dtype"), settings.pop("kappa")
    optimizer_class = {"FTPAdamW": FTPAdamW, "FTPSGD": FTPSGD}[settings.pop("optimizer")]
    with np.load(GOLDEN / f"{name}.npz") as file:
        data = dict(file)
    parameters = {
        key.removeprefix("init/"): torch.nn.Parameter(sharded(torch.tensor(value), key, mesh))
        for key, value in data.items()
        if key.startswith("init/")
    }
    optimizer = optimizer_class(parameters.items(), kappa=kappa, exclude=["head.*"], **settings)
    errors = [0.0]
    for step in range(steps):
        for key, parameter in parameters.items():
            parameter.grad = sharded(torch.tensor(data[f"grad/{key}"][step]), key, mesh)
        for group in optimizer.param_groups:
            group["lr"] = float(data["lr"][step])
        optimizer.step()
        if step % 5 == 4:
            for key, parameter in parameters.items():
                weight = parameter.full_tensor().detach().numpy()
                errors.append(float(np.abs(weight - data[f"weight/{key}"][step]).max()))
            radii = optimizer.radii().items()
            errors.extend(abs(radius.radius - data[f"gamma/{key}"][step]) for key, radius in radii)
    return max(errors)


def main(output):
    dist.init_process_group("gloo")
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    assert isinstance(sharded(torch.ones(4, 3), "four-rows.weight", mesh), DTensor)
    results = {"world_size": world, "sent": sent_by_a_step(mesh), "scaled_steps": scaled_steps(mesh)}
    results["gathered"] = gathered_together(mesh)
    fused = PROJECTED["FTPAdamW-fused"]
    results["optimizers"] = {"FTPAdamW-fused": compare(fused, mesh), "by-share": compare(by_share, mesh)}
    results["factors_by_share"] = factors_by_share(mesh)
    if world == 2:
        results["golden"] = {name: golden(name, mesh) for name in MANIFEST}
        results["refusals"] = refusals(mesh)
        results["optimizers"] |= {name: compare(PROJECTED[name], mesh) for name in ("FTPSGD-nesterov", "FTP-RAdam")}
        results["optimizers"]["bfloat16"] = compare(fused, mesh, torch.bfloat16)
        results["optimizers"]["resized"] = compare(resized, mesh)
    else:
        noisy = ("adamw_noisy_float32", "adamw_noisy_radius_returns_to_floor")
        results["golden"] = {name: golden(name, mesh) for name in noisy}
        results["optimizers"]["from-elsewhere"] = compare(from_elsewhere, mesh)
        results["optimizers"]["resized-from-elsewhere"] = compare(resized_from_elsewhere, mesh)
        results["optimizers"]["float64"] = compare(fused, mesh, torch.float64)
        results["optimizers"]["hsdp"] = compare(fused, init_device_mesh("cpu", (2, world // 2)))
    # Triton's interpreter is slow, of a tile of any size, and of four processes on fewer cores more so.
    triton_kernels._TILES.update(TILE=4096, SPREAD_TILE=8192)
    for module, steps in ((eager_kernels, 16), (triton_kernels, 4 if world == 2 else 3)):
        with mock.patch.object(kernels, "_kernels_for", lambda _, module=module: module):
            results["optimizers"][module.__name__.removeprefix("ftp_hf.")] = compare(fused, mesh, steps=steps)
    Path(output, f"rank{dist.get_rank()}.json").write_text(json.dumps(results))
    process_groups.leave()


if __name__ == "__main__":
    main(sys.argv[1])
