"""
The methods that Fast Trainable Projection is compared with, each in a file of its own and usable alone.

A mixin makes a `Trainer` of any `Trainer` class, and takes the options of its method as keywords:

    class L2SPTrainer(L2SPTrainerMixin, PlainTrainer):
        pass

    trainer = L2SPTrainer(model=model, args=args, train_dataset=dataset, alpha=0.1)

The functions beside it do the same for any training loop.
"""

from ftp_hf.pretrained.probing import only_trained

from .adapters import attach_kappatune, attach_lora, attach_osf
from .average import average, average_checkpoints
from .corda import attach_corda, save_as_lora
from .ewc import attach_ewc, ewc_penalty
from .ewc_trainer import EWCTrainerMixin
from .fapm import fapm
from .fisher import class_answers, fisher_diagonal
from .flow import FLOWTrainerMixin, ProbedFLOWTrainerMixin, flow_weights
from .kl import KLTrainerMixin
from .l2_sp import L2SPTrainerMixin, attach_l2_sp, l2_sp_penalty
from .ldifs import LDIFSTrainerMixin, ldifs_penalty
from .linear_probe import LinearProbeTrainerMixin
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
    "FLOWTrainerMixin",
    "KLTrainerMixin",
    "L2SPTrainerMixin",
    "LDIFSTrainerMixin",
    "LinearProbeTrainerMixin",
    "MoFO",
    "MoFOTrainerMixin",
    "ProbedFLOWTrainerMixin",
    "SPDTrainerMixin",
    "TPGMTrainerMixin",
    "attach_corda",
    "attach_ewc",
    "attach_kappatune",
    "attach_l2_sp",
    "attach_lora",
    "attach_osf",
    "attach_spd",
    "average",
    "average_checkpoints",
    "class_answers",
    "ewc_penalty",
    "fapm",
    "fisher_diagonal",
    "flow_weights",
    "interpolate",
    "l2_sp_penalty",
    "ldifs_penalty",
    "only_trained",
    "save_as_lora",
]
