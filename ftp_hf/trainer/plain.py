"""Fine-tuning as it is, which the methods are compared with."""

from transformers import Trainer

from .card import ModelCardMixin
from .loading import CompleteLoadingMixin
from .saving import CompleteSavingMixin

__all__ = ["PlainTrainer"]


class PlainTrainer(ModelCardMixin, CompleteSavingMixin, CompleteLoadingMixin, Trainer):
    """`Trainer` with what `FTPTrainer` has beside the projection: whole checkpoints, and cards that tell what happened."""
