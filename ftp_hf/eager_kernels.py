"""The projection of any tensor, on any device, with torch's operations: what the fast kernels fall back to."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import projection
from .projected_tensor import ProjectedTensor
from .radii import RadiusState

__all__ = ["distances", "project", "radius_gradients"]


def radius_gradients(batch: Sequence[ProjectedTensor]) -> Tensor:
    """
    `∇γ(t)` of every tensor. Copies the anchors of those at the floor back into their buffers.

    Args:
        batch (`Sequence[ProjectedTensor]`): tensors that have taken a step, before the unconstrained step.

    Returns:
        `Tensor`: one value per tensor.
    """
    return torch.stack([_radius_gradient(tensor) for tensor in batch])


def project(batch: Sequence[ProjectedTensor], gradients: Tensor | None) -> None:
    """
    Learn the radii, project every tensor onto its ball, and leave those whose radius is at the floor at their anchors.

    Args:
        batch (`Sequence[ProjectedTensor]`): tensors of one param group, after the unconstrained step.
        gradients (`Tensor` or `None`): `∇γ(t)`, one value per tensor; `None` at the first step.
    """
    rows = [tensor.radius_row for tensor in batch]
    radii = RadiusState.gather(rows)
    if gradients is not None:
        radii = radii.learned(gradients, batch[0].group)
    results = [_project(tensor, radius) for tensor, radius in zip(batch, radii.radius, strict=True)]
    largest, projected = zip(*results, strict=True)
    radii.settled(torch.stack(largest), torch.stack(projected)).scatter(rows)


def distances(batch: Sequence[ProjectedTensor]) -> Tensor:
    """
    The largest row norm of what each weight and its buffer differ by, which off the floor is the displacement.

    Args:
        batch (`Sequence[ProjectedTensor]`): between two steps.

    Returns:
        `Tensor`: one value per tensor.
    """
    return torch.stack([projection.distance(t.weight.detach(), t.held, t.row_dim) for t in batch])


def _radius_gradient(tensor: ProjectedTensor) -> Tensor:
    row_dim = tensor.row_dim
    if tensor.displacement is not None:
        return projection.radius_gradient(tensor.gradient, tensor.displacement, row_dim=row_dim)
    state = tensor.radius_state
    at_floor = (state.at_floor > 0).to(tensor.held.device)
    total = torch.zeros_like(state.radius)
    for weight, held, gradient in projection.row_blocks(row_dim, tensor.weight.detach(), tensor.held, tensor.gradient):
        total += _radius_gradient_of_block(weight, held, gradient, state.radius, at_floor, row_dim)
    return total


def _radius_gradient_of_block(
    weight: Tensor, held: Tensor, gradient: Tensor, radius: Tensor, at_floor: Tensor, row_dim: int
) -> Tensor:
    near = held.to(weight.device, non_blocking=True)
    result = _select(
        at_floor,
        (gradient * near).sum,
        lambda: projection.radius_gradient(gradient, weight - near, radius, row_dim),
    )
    held.copy_(_select(at_floor, lambda: weight, lambda: held))
    return result


def _project(tensor: ProjectedTensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    if tensor.displacement is not None:
        torch.sub(tensor.weight, tensor.held, out=tensor.displacement)
    largest, projected = torch.zeros_like(radius), torch.zeros_like(radius)
    for weight, held in projection.row_blocks(tensor.row_dim, tensor.weight.detach(), tensor.held):
        norms = _project_block(weight, held, radius, tensor.row_dim)
        largest = torch.maximum(largest, norms.max())
        projected += projection.projected_rows(radius, norms).sum()
    return largest, projected


def _project_block(weight: Tensor, held: Tensor, radius: Tensor, row_dim: int) -> Tensor:
    anchor = held.to(weight, non_blocking=True)
    displacement = weight - anchor
    norms = projection.row_norms(displacement, row_dim)
    at_floor, finite = projection.rests_at_anchor(radius).to(held.device), norms.isfinite()
    new_weight = _select(
        at_floor,
        lambda: torch.where(finite, anchor, weight),
        lambda: projection.project(weight, anchor, displacement, radius, norms),
    )
    held.copy_(_select(at_floor, lambda: torch.where(finite, displacement / norms, anchor), lambda: held))
    weight.copy_(new_weight)
    return norms


def _select(condition: Tensor, yes: Callable[[], Tensor], no: Callable[[], Tensor]) -> Tensor:
    # On the CPU a look at the condition is free; elsewhere it would wait for the device. An anchor that is kept in host
    # memory has its condition there, too: the wait is shorter than copying back an anchor that did not change.
    if condition.device.type == "cpu":
        return yes() if condition else no()
    return torch.where(condition, yes(), no())
