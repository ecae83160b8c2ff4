"""
Why are the kernels written by hand? The two stages of the projection, before and after the unconstrained step, done by
torch's eager operations, by `torch.compile`, and by the kernels that `ftp_hf` chooses (on the CPU a small C++ file, on
CUDA Triton).

    python benchmarks/mechanisms.py --model vit_b

`first_s` is the first call of both stages in a fresh process, without compiler caches. `tiny_us` is the time of a
stage per tensor of 4 × 4, where nothing but the overhead of a call is left.

The compiled variant is one dynamic function per stage, called tensor by tensor, with the radius in a 0-D tensor. It
leaves out what a radius at its floor needs, and so does less than the other two.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch
from contestants import CONTESTANTS, LEARNING_RATE, MODELS, Gradients, Shapes, Training, elements, shapes
from measure import Timed, alternate, in_fresh_process, parser, print_table, seconds, write
from torch import Tensor

from ftp_hf.projection import equations as projection
from ftp_hf.projection.first_state import first_states
from ftp_hf.projection.kernels import eager as eager_kernels
from ftp_hf.projection.kernels.dispatch import Kernels, batches
from ftp_hf.projection.radius import RadiusState
from ftp_hf.projection.tensor import ProjectedTensor

MECHANISMS = ("kernels", "compiled", "eager")
TINY = {f"weight{number}": (4, 4) for number in range(256)}


class Compiled:
    """The two stages by `torch.compile`, with the interface of the kernels of `ftp_hf`."""

    def __init__(self) -> None:
        self._radius_gradient: Callable[..., Tensor] = torch.compile(_radius_gradient, dynamic=True)
        self._project: Callable[..., tuple[Tensor, Tensor]] = torch.compile(_project, dynamic=True)

    def radius_gradients(self, batch: Sequence[ProjectedTensor]) -> Tensor:
        return torch.stack(
            [
                self._radius_gradient(_matrix(t, t.weight), _matrix(t, t.held), _matrix(t, t.gradient), t.radius_row[0])
                for t in batch
            ]
        )

    def project(self, batch: Sequence[ProjectedTensor], gradients: Tensor) -> None:
        rows = [tensor.radius_row for tensor in batch]
        group = batch[0].group
        radii = RadiusState.gather(rows).learned(gradients, group["radius_lr"], group)
        results = [
            self._project(_matrix(t, t.weight), _matrix(t, t.held), radius)
            for t, radius in zip(batch, radii.radius, strict=True)
        ]
        largest, projected = zip(*results, strict=True)
        radii.settled(torch.stack(largest), torch.stack(projected)).scatter(rows)


def _matrix(tensor: ProjectedTensor, values: Tensor) -> Tensor:
    return values.detach().view(tensor.shape)


def _radius_gradient(weight: Tensor, anchor: Tensor, gradient: Tensor, radius: Tensor) -> Tensor:
    return projection.radius_gradient(gradient, weight - anchor, radius)


def _project(weight: Tensor, anchor: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    displacement = weight - anchor
    norms = projection.row_norms(displacement)
    weight.copy_(projection.project(weight, anchor, displacement, radius, norms))
    return norms.max(), projection.projected_rows(radius, norms).sum()


class Stages:
    """Tensors in the middle of a training, a part of their rows on the ball, before and after an unconstrained step."""

    @torch.no_grad()
    def __init__(self, shapes: Shapes, arguments: Namespace) -> None:
        gradients = Gradients(shapes, arguments.device, arguments.seed, sets=1)
        training = Training(CONTESTANTS["ftp"], shapes, gradients, arguments.seed)
        training.prepare(0)
        group = training.optimizer.param_groups[0]
        self.batch: list[ProjectedTensor] = []
        self.before: list[Tensor] = []
        for name, p in zip(shapes, training.parameters, strict=True):
            tensor = ProjectedTensor.of(name, p, None, {}, group, row_dim=0)
            tensor.state.update(*first_states([tensor], lambda tensor: tensor.weight.detach()))
            displacement = -10 * p.grad  # so that the radius grows, and stays off its floor
            norms = projection.row_norms(displacement)
            tensor.radius_row[0] = norms.mean() if len(norms.shape) > 1 else norms.max() / 2
            moved = p.detach() + displacement
            self.before.append(projection.project(moved, p.detach(), displacement, tensor.radius_row[0], norms))
            self.batch.append(tensor)
        self.after = [w - LEARNING_RATE * t.gradient.sign() for w, t in zip(self.before, self.batch, strict=True)]
        self.rows = [tensor.radius_row.clone() for tensor in self.batch]

    def mechanism(self, name: str) -> Kernels:
        if name == "kernels":
            ((chosen, _),) = batches(self.batch)
            return chosen
        return Compiled() if name == "compiled" else eager_kernels

    @torch.no_grad()
    def restore(self, weights: list[Tensor]) -> None:
        """Undo what the stages changed."""
        torch._foreach_copy_([tensor.weight.detach() for tensor in self.batch], weights)
        torch._foreach_copy_([tensor.radius_row for tensor in self.batch], self.rows)

    def radius_gradients(self, mechanism: Kernels) -> Timed:
        self.restore(self.before)
        return Timed(lambda: mechanism.radius_gradients(self.batch))

    def project(self, mechanism: Kernels) -> Timed:
        self.restore(self.before)
        gradients = mechanism.radius_gradients(self.batch)
        return Timed(lambda: mechanism.project(self.batch, gradients), lambda _: self.restore(self.after))

    def check(self, mechanisms: dict[str, Kernels]) -> None:
        """Check that all mechanisms give the same weights."""
        results = {}
        for name, mechanism in mechanisms.items():
            stage = self.project(mechanism)
            stage.prepare(0)
            stage.run()
            results[name] = torch.cat([tensor.weight.detach().flatten() for tensor in self.batch])
        for name, weights in results.items():
            if not torch.allclose(weights, results["eager"], rtol=0, atol=1e-6):
                raise RuntimeError(f"{name} and eager project to different weights")


@torch.no_grad()
def first_calls(name: str, shapes: Shapes, arguments: Namespace) -> float:
    """Seconds that the first call of each stage takes, together."""
    torch._inductor.config.force_disable_caches = True
    stages = Stages(shapes, arguments)
    found: list[Any] = []
    total = seconds(lambda: found.append(stages.mechanism(name)), arguments.device)
    total += seconds(lambda: found.append(found[0].radius_gradients(stages.batch)), arguments.device)
    stages.restore(stages.after)
    return total + seconds(lambda: found[0].project(stages.batch, found[1]), arguments.device)


@torch.no_grad()
def compare(shapes: Shapes, arguments: Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """By stage and mechanism, the times of a batch of tensors."""
    stages = Stages(shapes, arguments)
    mechanisms = {name: stages.mechanism(name) for name in MECHANISMS}
    stages.check(mechanisms)
    results = {}
    for stage in ("radius_gradients", "project"):
        timed = {name: getattr(stages, stage)(mechanism) for name, mechanism in mechanisms.items()}
        stages.restore(stages.before)
        results[stage] = alternate(timed, arguments.repetitions, arguments.device)
    return results


def main() -> None:
    options = parser(__doc__, repetitions=20)
    options.add_argument("--model", choices=MODELS, default="vit_b", help="parameter list (default: %(default)s)")
    arguments = options.parse_args()

    sizes = shapes(arguments.model)
    timings, tiny = compare(sizes, arguments), compare(TINY, arguments)
    first = {name: in_fresh_process(first_calls, name, sizes, arguments) for name in MECHANISMS}
    rows = [
        {
            "stage": stage,
            "mechanism": name,
            **timings[stage][name],
            "ratio": timings[stage][name]["ms"] / timings[stage]["kernels"]["ms"],
            "tiny_us": 1000 * tiny[stage][name]["ms"] / len(TINY),
            "first_s": first[name],
        }
        for stage in timings
        for name in MECHANISMS
    ]
    title = f"the stages of the projection, {arguments.model}, {elements(sizes):,} parameters"
    print_table(title, rows, ["stage", "mechanism", "ms", "ratio", "tiny_us", "first_s"])
    write("mechanisms", arguments, rows)


if __name__ == "__main__":
    main()
