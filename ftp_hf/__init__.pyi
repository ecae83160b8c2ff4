from .adapters import adapter_options, restore_base_weights
from .optim import FTP, FTPSGD, FTPAdamW, ProjectedOptimizer, Radius, projected_optimizer
from .projection import LowRankProduct, LowRankUpdate
from .runs import DataFacts, RunSummary, data_facts, load_rules
from .trainer import (
    CompleteLoadingMixin,
    CompleteSavingMixin,
    FTPArguments,
    FTPTrainer,
    FTPTrainerMixin,
    FTPTrainingArguments,
    ModelCardMixin,
    RobustnessGuard,
)

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

__version__: str
