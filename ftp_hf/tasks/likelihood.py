"""How likely texts are to a causal language model: loss per token, and multiple choice by log-likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from ftp_hf.common.labels import IGNORED_LABEL

try:
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
except ImportError as error:
    raise ImportError('the task "text-generation" trains with TRL: pip install "ftp-hf[compare,language]"') from error

__all__ = [
    "DataCollatorForLanguageModeling",
    "LikelihoodArguments",
    "LikelihoodTrainer",
    "choice_accuracy",
    "loss_per_token",
    "next_token_logits",
]


@dataclass
class LikelihoodArguments(SFTConfig):  # type: ignore[misc] # of no known type
    """TRL's `SFTConfig`, in float32 unless `bf16` is asked for: in bfloat16 a loss depends on the rows beside it."""

    bf16: bool = field(default=False, metadata={"help": "Whether to train and measure in bfloat16 mixed precision."})


class LikelihoodTrainer(SFTTrainer):  # type: ignore[misc] # of no known type
    """
    TRL's `SFTTrainer`, whose predictions are the log-likelihoods of rows: of each the sum over the tokens whose labels
    count, and, as `label_ids`, how many they are. The mean of its batches' losses would weigh tokens by their neighbours.
    """

    def __init__(self, *args: Any, train_dataset: Any = None, eval_dataset: Any = None, **options: Any) -> None:
        # `SFTTrainer` asks for training data, also where a model is only evaluated.
        given = eval_dataset if train_dataset is None else train_dataset
        super().__init__(*args, train_dataset=given, eval_dataset=eval_dataset, **options)
        self.train_dataset = train_dataset

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Tensor], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, Tensor, Tensor]:
        """As that of `Trainer`: no loss, sums (rows,) and counts (rows,)."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            logits, counted = next_token_logits(model, inputs)
        labels = inputs["labels"][:, 1:]
        likelihoods = torch.zeros(labels.shape, dtype=torch.float32, device=logits.device)
        likelihoods[counted] = -nn.functional.cross_entropy(logits[counted].float(), labels[counted], reduction="none")
        return None, likelihoods.sum(dim=1), counted.sum(dim=1)

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """Rows in their own order: with `group_by_length` they would be evaluated in another one."""


def next_token_logits(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """
    What a causal language model says of the next tokens: logits (rows, tokens − 1, vocabulary), and where the label of the
    next token counts (rows, tokens − 1). The batch has `labels` (rows, tokens).
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False).logits[:, :-1], batch["labels"][:, 1:] != IGNORED_LABEL


def loss_per_token(prediction: EvalPrediction) -> dict[str, float]:
    """
    The loss of all tokens that count, each with the same weight, for `Trainer(compute_metrics=loss_per_token)` of
    [`LikelihoodTrainer`], whose predictions are log-likelihoods (rows,) and numbers of tokens (rows,).

    Raises:
        ValueError: no token counts.
    """
    tokens = np.sum(prediction.label_ids)
    if not tokens:
        raise ValueError("no row has a token of an answer: raise max_tokens, which cuts all of them off")
    return {"loss": float(-np.sum(prediction.predictions, dtype=np.float64) / tokens)}


def choice_accuracy(
    likelihoods: Sequence[float], choices: Sequence[Sequence[str]], answers: Sequence[int]
) -> dict[str, float]:
    """
    The share of questions whose likeliest choice is the answer (`answers` has its index), as lm-evaluation-harness computes
    it. `likelihoods` are log-likelihoods of all choices of the first question, the second, …

    Returns:
        `dict[str, float]`: `"acc_norm"`, with log-likelihoods over the numbers of characters of the choices, and `"acc"`; NaN
            where a log-likelihood is not finite, as the first NaN would be taken for the likeliest.
    """
    if not np.isfinite(likelihoods).all():
        return {"acc_norm": np.nan, "acc": np.nan}
    ends = np.cumsum([len(some) for some in choices])
    by_question = np.split(np.asarray(likelihoods, dtype=np.float64), ends[:-1])
    lengths = [np.array([len(choice) for choice in some], dtype=np.float64) for some in choices]
    likeliest = [int(np.argmax(found)) for found in by_question]
    normalised = [int(np.argmax(found / length)) for found, length in zip(by_question, lengths, strict=True)]
    right = np.asarray(answers)
    return {"acc_norm": float(np.mean(normalised == right)), "acc": float(np.mean(likeliest == right))}
