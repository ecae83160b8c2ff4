"""
The methods that Fast Trainable Projection is compared with, each in a file of its own and usable alone.

A mixin makes a `Trainer` of any `Trainer` class, and takes the options of its method as keywords:

    class L2SPTrainer(L2SPTrainerMixin, PlainTrainer):
        pass

    trainer = L2SPTrainer(model=model, args=args, train_dataset=dataset, alpha=0.1)

The functions beside it do the same for any training loop.
"""

from .flow import FLOWTrainerMixin, ProbedFLOWTrainerMixin, flow_weights
from .kl import KLTrainerMixin, kl_penalty
from .l2_sp import L2SPTrainerMixin, attach_l2_sp, l2_sp_penalty
from .ldifs import LDIFSTrainerMixin, ldifs_penalty
from .linear_probe import LinearProbeTrainerMixin, only_trained
from .spd import SPDTrainerMixin, attach_spd
from .tpgm import TPGM
from .tpgm_trainer import TPGMTrainerMixin
from .wise_ft import ALPHAS, interpolate

__all__ = [
    "ALPHAS",
    "TPGM",
    "FLOWTrainerMixin",
    "KLTrainerMixin",
    "L2SPTrainerMixin",
    "LDIFSTrainerMixin",
    "LinearProbeTrainerMixin",
    "ProbedFLOWTrainerMixin",
    "SPDTrainerMixin",
    "TPGMTrainerMixin",
    "attach_l2_sp",
    "attach_spd",
    "flow_weights",
    "interpolate",
    "kl_penalty",
    "l2_sp_penalty",
    "ldifs_penalty",
    "only_trained",
]
