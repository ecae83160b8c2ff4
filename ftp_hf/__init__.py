"""Fast Trainable Projection for Hugging Face: fine-tune pre-trained models without losing their robustness."""

from .adapters.find import adapter_options
from .adapters.products import restore_base_weights
from .card_trainer import ModelCardMixin
from .checkpoint_loading import CompleteLoadingMixin
from .checkpoint_saving import CompleteSavingMixin
from .guard import RobustnessGuard
from .optim.adamw import FTP, FTPSGD, FTPAdamW
from .optim.base import ProjectedOptimizer, Radius, projected_optimizer
from .projection.low_rank_tensor import LowRankProduct, LowRankUpdate
from .run_facts import data_facts
from .runs.rules import load_rules
from .runs.summary import DataFacts, RunSummary
from .trainer import FTPTrainer, FTPTrainerMixin
from .training_args import FTPArguments, FTPTrainingArguments

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
