"""torch's SGD with Fast Trainable Projection."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import SGD
from typing_extensions import Unpack

from .base import ProjectedOptimizer
from .options import ProjectionOptions

__all__ = ["FTPSGD"]


class FTPSGD(ProjectedOptimizer, SGD):
    """
    torch's `SGD` with Fast Trainable Projection around each step: the equations of [`FTPAdamW`] with `SGD` for `AdamW`.

    Args:
        params (iterable): as for [`FTPAdamW`].
        lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused:
            as in `torch.optim.SGD`, with its defaults.
        kappa, radius_lr, radius_share, radius_betas, exclude, transposed, rows, pretrained_rows, anchors, anchor_device,
        stochastic_rounding, low_rank: as for [`FTPAdamW`]. SGD moves an entry by `lr` times its gradient, so that
            `radius_share` is in units of a gradient here: a share of what rows could move by only where gradients are of about
            the size of one.

    Raises:
        ValueError, TypeError, FileNotFoundError: as [`FTPAdamW`] does.
    """

    _steps_as = SGD

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
        **options: Unpack[ProjectionOptions],
    ) -> None:
        self._set_options(options)
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
        self._set_anchors(options.get("anchors"))
