"""The Trainable Projected Gradient Method (Tian et al., CVPR 2023, arXiv 2303.10720): radii learned on held-out data."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.func import functional_call

from ftp_hf.common.modes import evaluation_mode
from ftp_hf.common.precision import precise_dtype
from ftp_hf.projection.equations import RADIUS_FLOOR, RowDim, distance, project, row_norms

from ._anchored import check_positive

__all__ = ["TPGM", "Inputs"]

Inputs = Mapping[str, Any]
"""What one forward pass is given: a batch, or a part of one."""


def _loss_of_output(model: nn.Module, inputs: Inputs) -> Tensor:
    loss: Tensor = model(**inputs).loss
    return loss


class TPGM:
    """
    Learns one radius for each parameter tensor on held-out batches, by differentiating their loss through the projection:

        W_p(γ) = W0 + min(1, γ / ‖W̃ − W0‖₁) (W̃ − W0), row by row
        γ ← Adam(γ, ∂ loss(held-out batch; W_p(γ)) / ∂γ), clipped to [1e-8, max_row ‖W̃ − W0‖₁]

    The second line is repeated for each held-out batch; then the model's weights become `W_p(γ)`. As in the authors' code
    for training with projection: the MARS norm (`‖·‖₁` is the L1 norm of a row plus 1e-8; in a tensor of one dimension each
    element is a row), the loss of the model in evaluation mode, a radius that starts at half the smallest row norm, and an
    Adam that keeps its moments between the steps.

    It costs a forward and a backward pass for each held-out batch, and while it learns, memory for two more copies of the
    weights. With several processes (`torch.distributed`), each gives batches of its own and the radii's gradients are
    averaged, so that the radii, and with them the weights, stay the same bit for bit on all of them.

    Args:
        model (`nn.Module`): at its pre-trained weights, unless `anchors` are given.
        names (collection of `str`): the parameters that are projected.
        lr (`float`, *optional*, defaults to 1e-2): of the radii's Adam, in units of a row's L1 norm.
        loss (`Callable`, *optional*): of the model and its inputs; by default `model(**inputs).loss`.
        anchors (mapping from `str` to `Tensor`, *optional*): `W0`; by default a copy of the weights as they are now.
        rows (mapping from `str` to `int` or tuple of `int`, *optional*): the dimensions that count rows, where they are not
            dimension 0, as [`~ftp_hf.pretrained.parameter_rows`] finds them.

    Raises:
        ValueError: `lr` is not positive, or no parameter goes by one of the names.

    Example:
        ```python
        optimizer.step()
        tpgm.update([[next(held_out)]])
        ```
    """

    def __init__(
        self,
        model: nn.Module,
        names: Collection[str],
        lr: float = 1e-2,
        *,
        loss: Callable[[nn.Module, Inputs], Tensor] = _loss_of_output,
        anchors: Mapping[str, Tensor] | None = None,
        rows: Mapping[str, RowDim] | None = None,
    ) -> None:
        check_positive("lr", lr)
        self.model = model
        self.parameters = {name: p for name, p in model.named_parameters() if name in names}
        if not self.parameters:
            raise ValueError("TPGM has no parameter to project: give names of model.named_parameters()")
        given = {} if anchors is None else anchors
        self.anchors = {
            name: given[name].to(p.device) if name in given else p.detach().clone()
            for name, p in self.parameters.items()
        }
        self._row_dims = {name: (rows or {}).get(name, 0) for name in self.parameters}
        self._objective = _Objective(model, loss)
        first = next(iter(self.parameters.values()))
        self.radii = torch.full(
            (len(self.parameters),), torch.nan, dtype=precise_dtype(first), device=first.device, requires_grad=True
        )
        self.optimizer = torch.optim.Adam([self.radii], lr=lr)

    def update(self, batches: Iterable[Sequence[Inputs]]) -> None:
        """
        Learn the radii and project the model's weights. To be called after each step of the optimizer.

        Args:
            batches (iterable of sequence of mappings): one Adam step for each. A batch is a sequence of parts of equal
                size, which pass through the model one by one. Without batches the weights are projected onto the radii as
                they are.
        """
        displacements = {name: _rows(p.detach()) - _rows(self.anchors[name]) for name, p in self.parameters.items()}
        norms = {name: row_norms(c, self._row_dims[name]) for name, c in displacements.items()}
        smallest, largest = (torch.stack([f(norm) for norm in norms.values()]) for f in (torch.min, torch.max))
        with torch.no_grad():
            self.radii.copy_(torch.where(self.radii.isnan(), smallest / 2, self.radii))
        self._clip(largest)
        for batch in batches:
            self.radii.grad = self._gradient(displacements, norms, batch)
            self.optimizer.step()
            self._clip(largest)
        self._project(displacements, norms)

    def state_dict(self) -> dict[str, Any]:
        """The radii and their Adam. The anchors are not in it: they are the pre-trained weights."""
        return {
            "names": list(self.parameters),
            "radii": self.radii.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Go on from a [`~TPGM.state_dict`].

        Raises:
            ValueError: it is of other parameters.
        """
        if state["names"] != list(self.parameters):
            different = sorted(set(state["names"]) ^ set(self.parameters))
            raise ValueError(f"the radii are those of other parameters than the model's: {', '.join(different[:3])}")
        self.radii.copy_(state["radii"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def check(self) -> None:
        """
        Check what the method promises.

        Raises:
            RuntimeError: no radius has left the floor, or a tensor is outside its ball.
        """
        if not bool((self.radii > RADIUS_FLOOR).any()):
            raise RuntimeError("TPGM moved no radius")
        for (name, p), radius in zip(self.parameters.items(), self.radii.tolist(), strict=True):
            weight, anchor, row_dim = _rows(p), _rows(self.anchors[name]), self._row_dims[name]
            # Rounding: W0 + c is off by up to half a unit in the last place of each weight.
            slack = 1e-6 + float(row_norms(weight, row_dim).max()) * torch.finfo(p.dtype).eps
            if float(distance(weight, anchor, row_dim)) > radius + slack:
                raise RuntimeError(f"TPGM left {name} outside its radius {radius:.3e}")

    @torch.no_grad()
    def _clip(self, largest: Tensor) -> None:
        self.radii.copy_(torch.minimum(self.radii, largest).clamp(min=RADIUS_FLOOR))

    @torch.enable_grad()
    def _gradient(
        self, displacements: Mapping[str, Tensor], norms: Mapping[str, Tensor], parts: Sequence[Inputs]
    ) -> Tensor:
        total = torch.zeros_like(self.radii)
        with evaluation_mode(self.model):
            for part in parts:
                radii = zip(displacements, self.radii.unbind(), strict=True)
                weights = {
                    name: _rows(self.anchors[name]) + _shrinkage(radius, norms[name]) * displacements[name]
                    for name, radius in radii
                }
                named = {f"model.{name}": w.view_as(p).to(p.dtype) for (name, w), p in self._with_parameters(weights)}
                loss = functional_call(self._objective, named, (part,))
                total += torch.autograd.grad(loss, [self.radii])[0] / len(parts)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
            total /= torch.distributed.get_world_size()
        # One batch that overflows must not end the learning.
        return torch.where(total.isfinite(), total, 0.0).detach()

    @torch.no_grad()
    def _project(self, displacements: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> None:
        for ((name, c), p), radius in zip(self._with_parameters(displacements), self.radii.unbind(), strict=True):
            p.copy_(project(_rows(p), _rows(self.anchors[name]), c, radius, norms[name]).view_as(p))

    def _with_parameters(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, Tensor], nn.Parameter]]:
        return zip(tensors.items(), self.parameters.values(), strict=True)


class _Objective(nn.Module):
    """The loss as a module, so that its model can be called with other parameters."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Inputs], Tensor]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, inputs: Inputs) -> Tensor:
        return self._loss(self.model, inputs)


def _shrinkage(radius: Tensor, norms: Tensor) -> Tensor:
    ratio = radius / norms
    # A radius at its largest row norm still has the gradient of that row, which clamp no longer passes from torch 2.14 on.
    return torch.where(ratio > 1.0, 1.0, ratio)


def _rows(x: Tensor) -> Tensor:
    """In a dtype precise enough for displacements, with each element of a one-dimensional tensor as a row."""
    return x.to(precise_dtype(x)).unsqueeze(1) if x.ndim == 1 else x.to(precise_dtype(x))
