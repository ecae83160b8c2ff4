"""The projection of any tensor, on any device, with torch's operations: what the fast kernels fall back to."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ftp_hf.projection import equations
from ftp_hf.projection.rates import fan_ins
from ftp_hf.projection.tensor import ProjectedTensor

from .driver import project_at_radii

__all__ = ["ROUNDS_MASTERS", "TAKES_ADAMW_STEPS", "distances", "project", "radius_gradients"]

ROUNDS_MASTERS = False
TAKES_ADAMW_STEPS = False


def radius_gradients(batch: Sequence[ProjectedTensor]) -> Tensor:
    """
    `∇γ(t)` of every tensor. Copies the anchors of those at the floor back into their buffers, and notes that they are there, so that a
    step that is interrupted before the projection loses none.

    Args:
        batch (`Sequence[ProjectedTensor]`): tensors that have taken a step, before the unconstrained step.

    Returns:
        `Tensor`: one value per tensor.
    """
    gradients = torch.stack([_radius_gradient(tensor) for tensor in batch])
    torch._foreach_zero_([tensor.radius_state.at_floor for tensor in batch])
    return gradients


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None, largest: Tensor | None = None) -> None:
    """
    Learn the radii, project every tensor onto its ball, and leave those whose radius is at the floor at their anchors.

    Args:
        batch (`Sequence[ProjectedTensor]`): tensors of one param group, after the unconstrained step.
        gradients (`Tensor` or `None`): `∇γ(t)`, one value per tensor; `None` at the first step.
        largest (`Tensor`, *optional*): the largest row norm of each whole tensor, for tensors that are sharded.
    """
    project_rows = functools.partial(_project_rows, batch, largest=largest)
    project_at_radii(project_rows, batch, gradients, largest, reaches=functools.partial(fan_ins, batch))


def distances(batch: Sequence[ProjectedTensor]) -> Tensor:
    """
    The largest row norm of what each weight and its buffer differ by, which off the floor is the displacement.

    Args:
        batch (`Sequence[ProjectedTensor]`): between two steps.

    Returns:
        `Tensor`: one value per tensor.
    """
    return torch.stack([equations.distance(t.weight, t.held, t.row_dim) for t in batch])


def _radius_gradient(tensor: ProjectedTensor) -> Tensor:
    if tensor.direction is not None:
        return (tensor.gradient * tensor.direction).sum()
    state = tensor.radius_state
    at_floor = (state.at_floor > 0).to(tensor.held.device)
    total = torch.zeros_like(state.radius)
    for weight, held, gradient in equations.row_blocks(tensor.row_dim, tensor.weight, tensor.held, tensor.gradient):
        total += _radius_gradient_of_block(weight, held, gradient, state.radius, at_floor, tensor)
    return total


def _radius_gradient_of_block(
    weight: Tensor, held: Tensor, gradient: Tensor, radius: Tensor, at_floor: Tensor, tensor: ProjectedTensor
) -> Tensor:
    near, gradient = held.to(weight.device, non_blocking=True), gradient.to(weight)

    def off_floor() -> Tensor:
        if tensor.is_fragment:
            # The projection leaves a single row at a norm of γ, whatever its parts are.
            return (gradient * (weight - near)).sum() / radius
        return equations.radius_gradient(gradient, weight - near, radius, tensor.row_dim)

    result = _select(at_floor, (gradient * near).sum, off_floor)
    # Of a row that was not finite, the buffer holds the anchor already.
    held.copy_(_select(at_floor, lambda: torch.where(weight.isnan(), near, weight), lambda: held))
    return result


def _project_rows(batch: Sequence[ProjectedTensor], radii: Tensor, largest: Tensor | None) -> tuple[Tensor, Tensor]:
    norms = [None] * len(batch) if largest is None else largest
    results = [_project(tensor, radius, norm) for tensor, radius, norm in zip(batch, radii, norms, strict=True)]
    return torch.stack([found for found, _ in results]), torch.stack([projected for _, projected in results])


def _project(tensor: ProjectedTensor, radius: Tensor, norm: Tensor | None) -> tuple[Tensor, Tensor]:
    largest, projected = torch.zeros_like(radius), torch.zeros_like(radius)
    buffers = [tensor.held] if tensor.direction is None else [tensor.held, tensor.direction]
    for weight, held, *direction in equations.row_blocks(tensor.row_dim, tensor.weight, *buffers):
        anchor = held.to(weight, non_blocking=True)
        displacement = weight - anchor
        norms = equations.row_norms(displacement, tensor.row_dim)
        if tensor.is_fragment and norm is not None:
            norms = norm.expand_as(norms)
        _project_block(weight, held, anchor, displacement, radius, norms)
        for kept in direction:
            torch.div(displacement, norms, out=kept)
        largest = torch.maximum(largest, norms.max())
        projected += equations.projected_rows(radius, norms).sum()
    return largest, projected


def _project_block(
    weight: Tensor, held: Tensor, anchor: Tensor, displacement: Tensor, radius: Tensor, norms: Tensor
) -> None:
    at_floor, finite = equations.rests_at_anchor(radius).to(held.device), norms.isfinite()
    # All of a row that is not finite says so at the floor, so that each element tells that the buffer keeps its anchor.
    new_weight = _select(
        at_floor,
        lambda: torch.where(finite, anchor, torch.nan),
        lambda: equations.project(weight, anchor, displacement, radius, norms),
    )
    held.copy_(_select(at_floor, lambda: torch.where(finite, displacement / norms, anchor), lambda: held))
    weight.copy_(new_weight)


def _select(condition: Tensor, yes: Callable[[], Tensor], no: Callable[[], Tensor]) -> Tensor:
    # On the CPU a look at the condition is free; elsewhere it would wait for the device. An anchor that is kept in host
    # memory has its condition there, too: the wait is shorter than copying back an anchor that did not change.
    if condition.device.type == "cpu":
        return yes() if condition else no()
    return torch.where(condition, yes(), no())
