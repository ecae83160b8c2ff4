"""
The methods that Fast Trainable Projection is compared with, each in a file of its own and usable alone.

A mixin makes a `Trainer` of any `Trainer` class, and takes the options of its method as keywords:

    class L2SPTrainer(L2SPTrainerMixin, PlainTrainer):
        pass

    trainer = L2SPTrainer(model=model, args=args, train_dataset=dataset, alpha=0.1)

The functions beside it do the same for any training loop.
"""

from .ewc import attach_ewc, ewc_penalty
from .ewc_trainer import EWCTrainerMixin
from .fisher import class_answers, fisher_diagonal
from .l2_sp import L2SPTrainerMixin, attach_l2_sp, l2_sp_penalty
from .linear_probe import LinearProbeTrainerMixin, only_trained
from .mofo import MoFO
from .mofo_trainer import MoFOTrainerMixin
from .spd import SPDTrainerMixin, attach_spd
from .tpgm import TPGM
from .tpgm_trainer import TPGMTrainerMixin
from .wise_ft import ALPHAS, interpolate

__all__ = [
    "ALPHAS",
    "TPGM",
    "EWCTrainerMixin",
    "L2SPTrainerMixin",
    "LinearProbeTrainerMixin",
    "MoFO",
    "MoFOTrainerMixin",
    "SPDTrainerMixin",
    "TPGMTrainerMixin",
    "attach_ewc",
    "attach_l2_sp",
    "attach_spd",
    "class_answers",
    "ewc_penalty",
    "fisher_diagonal",
    "interpolate",
    "l2_sp_penalty",
    "only_trained",
]
