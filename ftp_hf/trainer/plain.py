"""Fine-tuning as it is, which the methods are compared with."""

from transformers import Trainer

from .card import ModelCardMixin
from .evaluation import EvaluationMixin
from .loading import CompleteLoadingMixin
from .probe import ProbeFirstMixin
from .saving import CompleteSavingMixin
from .statistics import FrozenStatisticsMixin

__all__ = ["PlainTrainer", "PlainTrainerMixin", "plain_trainer"]


class PlainTrainerMixin(
    ModelCardMixin,
    CompleteSavingMixin,
    CompleteLoadingMixin,
    ProbeFirstMixin,
    FrozenStatisticsMixin,
    EvaluationMixin,
):
    """
    What [`FTPTrainerMixin`] has beside the projection: whole checkpoints, cards that say what happened, evaluations that
    change nothing ([`EvaluationMixin`]), and the options `probe_epochs` ([`ProbeFirstMixin`]) and `freeze_statistics`
    ([`FrozenStatisticsMixin`]).
    """


class PlainTrainer(PlainTrainerMixin, Trainer):
    """`Trainer` with [`PlainTrainerMixin`]."""


def plain_trainer(base: type[Trainer]) -> type[Trainer]:
    """[`PlainTrainerMixin`] on any Trainer class, such as `Seq2SeqTrainer`."""
    return PlainTrainer if base is Trainer else type(f"Plain{base.__name__}", (PlainTrainerMixin, base), {})
