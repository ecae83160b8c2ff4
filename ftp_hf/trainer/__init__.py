"""The Trainers: [`FTPTrainer`], [`PlainTrainer`] to compare it with, and the mixins that both are made of."""

from .arguments import FTPArguments, FTPTrainingArguments
from .card import ModelCardMixin
from .ftp import FTPTrainer, FTPTrainerMixin
from .guard import RobustnessGuard
from .loading import CompleteLoadingMixin
from .plain import PlainTrainer
from .saving import CompleteSavingMixin

__all__ = [
    "CompleteLoadingMixin",
    "CompleteSavingMixin",
    "FTPArguments",
    "FTPTrainer",
    "FTPTrainerMixin",
    "FTPTrainingArguments",
    "ModelCardMixin",
    "PlainTrainer",
    "RobustnessGuard",
]
