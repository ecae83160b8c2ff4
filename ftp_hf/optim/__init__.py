"""
The optimizers: [`FTPAdamW`], [`FTPSGD`], and [`FTP`] around any other. They know tensors, names and options, but neither
transformers nor adapters nor a Trainer.
"""

from .adamw import FTP, FTPSGD, FTPAdamW
from .base import ProjectedOptimizer, Radius, projected_optimizer

__all__ = ["FTP", "FTPSGD", "FTPAdamW", "ProjectedOptimizer", "Radius", "projected_optimizer"]
