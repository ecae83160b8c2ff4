"""Fast Trainable Projection for Hugging Face: fine-tune pre-trained models without losing their robustness."""

from .optim import FTP, FTPSGD, FTPAdamW
from .projected import ProjectedOptimizer, Radius

__all__ = ["FTP", "FTPSGD", "FTPAdamW", "ProjectedOptimizer", "Radius"]

__version__ = "0.1.0"
