"""The Trainable Projected Gradient Method, which learns the same radii on held-out batches."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from published import row_sums
from torch import Tensor, nn
from torch.func import functional_call

_FLOOR = 1e-8


class TPGM:
    """
    TPGM (Tian et al., "Trainable Projected Gradient Method for Robust Fine-tuning", CVPR 2023, arXiv 2303.10720), with
    the MARS norm and one radius per tensor, written from the equations:

        W_p(γ) = W0 + min(1, γ / ‖W̃ − W0‖₁) · (W̃ − W0), row by row
        γ ← Adam(γ, ∂ loss(held-out batch; W_p(γ)) / ∂γ), clipped to [1e-8, max_row ‖W̃ − W0‖₁]

    The second line is repeated for each held-out batch; then the model's weights become `W_p(γ)`. Here that happens
    after every training step, with one held-out batch. The held-out loss is that of the model in evaluation mode.

    Args:
        model (`nn.Module`): at its pre-trained weights; called with a batch, it returns an object with a `loss`.
        names (collection of `str`): the parameters that are projected.
        lr (`float`, *optional*, defaults to 1e-2): of the radii's Adam, which keeps its moments between the steps.
    """

    def __init__(self, model: nn.Module, names: Collection[str], lr: float = 1e-2) -> None:
        self.model = model
        self.parameters = {name: p for name, p in model.named_parameters() if name in names}
        self.anchors = {name: p.detach().clone() for name, p in self.parameters.items()}
        device = next(iter(self.anchors.values())).device
        self.radii = torch.full((len(self.anchors),), _FLOOR, device=device, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.radii], lr=lr)

    def update(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Learn the radii, one Adam step for each held-out batch, and project the model's weights."""
        displacements = {name: p.detach() - self.anchors[name] for name, p in self.parameters.items()}
        norms = {name: row_sums(c.abs()) + _FLOOR for name, c in displacements.items()}
        largest = torch.stack([norm.max() for norm in norms.values()])
        training = self.model.training
        self.model.eval()
        for batch in batches:
            projected = self._projected(displacements, norms)
            loss = functional_call(self.model, projected, kwargs=dict(batch)).loss
            (self.radii.grad,) = torch.autograd.grad(loss, [self.radii])
            self.optimizer.step()
            with torch.no_grad():
                self.radii.copy_(torch.minimum(self.radii.clamp(min=_FLOOR), largest))
        self.model.train(training)
        with torch.no_grad():
            for name, weight in self._projected(displacements, norms).items():
                self.parameters[name].copy_(weight)

    def _projected(self, displacements: dict[str, Tensor], norms: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: self.anchors[name] + (radius / norms[name]).clamp(max=1.0) * displacements[name]
            for name, radius in zip(self.anchors, self.radii.unbind(), strict=True)
        }

    @torch.no_grad()
    def check(self) -> None:
        """
        Check what the method promises.

        Raises:
            RuntimeError: no radius has left its first value, or a tensor is outside its ball.
        """
        if not bool((self.radii > _FLOOR).any()):
            raise RuntimeError("TPGM moved no radius")
        for (name, p), radius in zip(self.parameters.items(), self.radii.tolist(), strict=True):
            # Rounding: W0 + c is off by up to half a unit in the last place of each weight.
            slack = 1e-6 + float(row_sums(p.abs()).max()) * torch.finfo(p.dtype).eps
            if float(row_sums((p - self.anchors[name]).abs()).max()) > radius + slack:
                raise RuntimeError(f"TPGM left {name} outside its radius {radius:.3e}")
