"""Fast Trainable Projection for Hugging Face: fine-tune pre-trained models without losing their robustness."""

from .checkpoint_loading import CompleteLoadingMixin
from .checkpoint_saving import CompleteSavingMixin
from .optim import FTP, FTPSGD, FTPAdamW
from .projected import ProjectedOptimizer, Radius
from .trainer import FTPTrainer, FTPTrainerMixin, projected_optimizer
from .training_args import FTPArguments, FTPTrainingArguments

__all__ = [
    "FTP",
    "FTPSGD",
    "CompleteLoadingMixin",
    "CompleteSavingMixin",
    "FTPAdamW",
    "FTPArguments",
    "FTPTrainer",
    "FTPTrainerMixin",
    "FTPTrainingArguments",
    "ProjectedOptimizer",
    "Radius",
    "projected_optimizer",
]

__version__ = "0.1.0"
