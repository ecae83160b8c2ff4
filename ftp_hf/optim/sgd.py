"""torch's SGD with Fast Trainable Projection."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import SGD

from ftp_hf.projection.low_rank_tensor import LowRankUpdate

from .base import _STEP_UNSCALES, Anchors, ProjectedOptimizer, _options, _step_without_hooks

__all__ = ["FTPSGD"]


class FTPSGD(ProjectedOptimizer, SGD):
    """
    torch's `SGD` with Fast Trainable Projection around each step: the equations of [`FTPAdamW`] with `SGD` for `AdamW`.

    Args:
        params (iterable): as for [`FTPAdamW`].
        lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused:
            as in `torch.optim.SGD`, with its defaults.
        kappa, radius_lr, radius_betas, exclude, transposed, anchors, anchor_device, low_rank: as for [`FTPAdamW`].

    Raises:
        ValueError, TypeError, FileNotFoundError: as [`FTPAdamW`] does.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        kappa: float = 1.0,
        radius_lr: float = 1e-2,
        radius_betas: tuple[float, float] = (0.9, 0.999),
        exclude: Sequence[str] = (),
        transposed: Sequence[str] = (),
        anchors: Anchors | None = None,
        anchor_device: str | None = None,
        low_rank: Sequence[LowRankUpdate] = (),
    ) -> None:
        self._low_rank = tuple(low_rank)
        self._options = _options(kappa, radius_lr, radius_betas, exclude, transposed, anchor_device)
        super().__init__(
            params,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )
        self._step_supports_amp_scaling = _STEP_UNSCALES
        self._set_anchors(anchors)

    def _unconstrained_step(self) -> None:
        _step_without_hooks(SGD, self)
