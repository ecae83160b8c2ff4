"""Fast Trainable Projection for Hugging Face: fine-tune pre-trained models without losing their robustness."""

from .adapters.options import adapter_options
from .adapters.products import restore_base_weights
from .optim.adamw import FTPAdamW
from .optim.base import ProjectedOptimizer, projected_optimizer
from .optim.radii import Radius
from .optim.sgd import FTPSGD
from .optim.wrapper import FTP
from .projection.low_rank_tensor import LowRankProduct, LowRankUpdate
from .runs.data import data_facts
from .runs.rules import load_rules
from .runs.summary import DataFacts, RunSummary
from .trainer.arguments import FTPArguments, FTPTrainingArguments
from .trainer.card import ModelCardMixin
from .trainer.ftp import FTPTrainer, FTPTrainerMixin
from .trainer.guard import RobustnessGuard
from .trainer.loading import CompleteLoadingMixin
from .trainer.saving import CompleteSavingMixin

__all__ = [
    "FTP",
    "FTPSGD",
    "CompleteLoadingMixin",
    "CompleteSavingMixin",
    "DataFacts",
    "FTPAdamW",
    "FTPArguments",
    "FTPTrainer",
    "FTPTrainerMixin",
    "FTPTrainingArguments",
    "LowRankProduct",
    "LowRankUpdate",
    "ModelCardMixin",
    "ProjectedOptimizer",
    "Radius",
    "RobustnessGuard",
    "RunSummary",
    "adapter_options",
    "data_facts",
    "load_rules",
    "projected_optimizer",
    "restore_base_weights",
]

__version__ = "0.1.0"
