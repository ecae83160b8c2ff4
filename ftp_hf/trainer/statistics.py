"""Training that leaves the pre-trained statistics of batch norms alone."""

import logging
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ftp_hf.common.host import Host, optimizer_of
from ftp_hf.pretrained.origin import UnknownOriginError
from ftp_hf.pretrained.statistics import pretrained_statistics

from .arguments import FTPArguments

__all__ = ["FrozenStatisticsMixin", "warn_of_drift"]

logger = logging.getLogger(__name__)


class FrozenStatisticsMixin(Host):
    """
    For any `Trainer` class: the option that batch norms keep their pre-trained running statistics. They compute with these
    in training too, as they do in evaluation, and their weights and biases are trained as before. Those of a new head
    have no pre-trained statistics, and are left in training mode.

    A step of plain training moves the statistics towards those of its batches whatever the learning rate is, and no
    projection of weights holds them: they are no weights.

    Args:
        freeze_statistics (`bool`, *optional*): by default what [`FTPArguments`] says, where `args` has it, and else `False`.
    """

    _given_freezing: bool | None = None
    _frozen_norms: tuple[nn.Module, ...] = ()

    def __init__(self, *args: Any, freeze_statistics: bool | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given_freezing = freeze_statistics

    @property
    def freeze_statistics(self) -> bool:
        """Whether the next training leaves them alone."""
        given = self._given_freezing
        return FTPArguments.of(self.args).ftp_freeze_statistics if given is None else given

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """The optimizer of the Trainer class, which has nothing to do with statistics."""
        # Here, because only now is the model certain that is trained (`model_init`), and its names are still its own.
        self._frozen_norms = ()
        if self.freeze_statistics:
            self._frozen_norms = tuple(pretrained_statistics(self.model if model is None else model).values())
            if not self._frozen_norms:
                logger.warning("freeze_statistics: this model has no batch norm with pre-trained statistics")
        return optimizer_of(self, super().create_optimizer, model)

    def compute_loss(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, Any]:
        """As `Trainer.compute_loss`, with these batch norms in evaluation mode, from which each training step takes them."""
        for norm in self._frozen_norms:
            norm.eval()
        return super().compute_loss(model, *args, **kwargs)


def warn_of_drift(model: nn.Module) -> None:
    """Warn of batch norms whose pre-trained statistics the training will move, and say how many."""
    try:
        count = len(pretrained_statistics(model))
    except UnknownOriginError:
        return
    if count:
        logger.warning(
            "Training moves the pre-trained statistics of %d batch norms, which no projection of weights holds: "
            "ftp_freeze_statistics=True keeps them.",
            count,
        )
