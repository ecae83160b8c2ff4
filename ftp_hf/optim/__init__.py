"""
The optimizers: [`FTPAdamW`], [`FTPSGD`], and [`FTP`] around any other. They know tensors, names and options, but neither
transformers nor adapters nor a Trainer. `reference.py` is the whole algorithm on one screen: the place to start.
"""

from .adamw import FTPAdamW
from .base import ProjectedOptimizer
from .radii import Radius
from .sgd import FTPSGD
from .unwrap import projected_optimizer
from .wrapper import FTP

__all__ = ["FTP", "FTPSGD", "FTPAdamW", "ProjectedOptimizer", "Radius", "projected_optimizer"]
