"""The diagonal of the Fisher information: how much what a model answers depends on each of its weights."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from ftp_hf.common.modes import evaluation_mode
from ftp_hf.common.precision import precise_dtype
from ftp_hf.tasks.whisper_windows import hearing

from ._answers import answers_classes, labelled, logits_of, predicts_next
from ._beside import base_of

__all__ = ["check_answers_classes", "class_answers", "fisher_diagonal"]

_METHOD = "the Fisher information"
_NO_CLASSES = "{} does not answer with distributions over classes here, from which answers could be sampled"


def fisher_diagonal(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    names: Collection[str] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """
    `F_i = E_x E_{y ~ p(y|x)} [(∂ log p(y|x) / ∂θ_i)²]`, averaged over the answers to all rows.

    The answers y are sampled from the model, which makes it the Fisher information. With the data's own labels it would be
    the "empirical" one, which is something else (Kunstner et al., NeurIPS 2019, arXiv 1905.12558). A row of text has an
    answer for each token that counts, all given the tokens of the data before it: the gradient is that of all of them
    together, whose square has the sum of theirs as its mean.

    It takes a forward and a backward pass for each row, in evaluation mode, and leaves `grad` as it is. With several
    processes (`torch.distributed`) all of them have to call it with the same batches: each passes a part of them, and all
    get the same result.

    Args:
        model (`nn.Module`): whose answers are sampled.
        batches (iterable of mappings): inputs of **one** row each; squares of the gradients of several rows together are no
            Fisher information.
        names (collection of `str`, *optional*): parameters; by default all that are trained.
        seed (`int`, *optional*, defaults to 0): of the sampled answers.

    Returns:
        `dict[str, Tensor]`: `F` by name, in the shape of the parameter, float32 or float64.

    Raises:
        ValueError: a batch has several rows; no answer counts; as [`class_answers`].
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad and (names is None or name in names)}
    total = {name: torch.zeros_like(p, dtype=precise_dtype(p)) for name, p in named.items()}
    together = torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if together else (0, 1)
    count = torch.zeros((), dtype=torch.float64)
    with evaluation_mode(model), torch.enable_grad():
        for index, batch in enumerate(batches):
            if index % processes != rank:
                continue
            logits, counted = class_answers(model, batch)
            if len(logits) != 1:
                raise ValueError(
                    f"a batch has {len(logits)} rows, whose gradients cannot be told apart: pass one at a time"
                )
            logits = logits[counted].to(precise_dtype(logits))
            if len(logits):
                likelihood = _of_sampled_answers(logits, torch.Generator().manual_seed(seed + index))
                gradients = torch.autograd.grad(likelihood, list(named.values()), allow_unused=True)
                for squares, gradient in zip(total.values(), gradients, strict=True):
                    if gradient is not None:
                        squares.add_(gradient.to(squares.dtype).square())
            count += len(logits)
    if together:
        for squares in total.values():
            torch.distributed.all_reduce(squares)
        count = count.to(next(iter(total.values())).device)
        torch.distributed.all_reduce(count)
    if not count:
        raise ValueError("no answer counts: pass rows, with labels other than -100 where there are labels")
    return {name: squares / count.item() for name, squares in total.items()}


def _of_sampled_answers(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The log-likelihood of answers that are drawn from it (0-D), of logits (answers, classes)."""
    # On the CPU, whose generator draws the same for every device.
    drawn = torch.multinomial(logits.detach().softmax(dim=-1).cpu(), 1, generator=generator).squeeze(1)
    return -nn.functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")


def class_answers(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """
    What a model of transformers, or of PEFT, answers where its loss counts it: a class for each row, for each token, or, of
    language models, for the next token. A decoder is given the labels of the data as the tokens before.

    Returns:
        `tuple[Tensor, Tensor]`: logits (rows, …, classes), and which of them count (rows, …): without labels, all.

    Raises:
        ValueError: the answers are no distributions over classes, or labels are not the class of each answer.
    """
    shifted = predicts_next(model)
    inputs = {name: value for name, value in batch.items() if not (shifted and name == "labels")}
    with hearing(model, inputs):
        logits = logits_of(_METHOD, model(**inputs))
    if logits.shape[-1] == 1:
        raise ValueError(_NO_CLASSES.format(type(base_of(model)).__name__))
    logits, _, counted = labelled(_METHOD, logits, batch.get("labels"), shifted=shifted)
    return logits, counted


def check_answers_classes(model: nn.Module) -> None:
    """Raise if it is known, before anything is answered, that [`class_answers`] will."""
    if not answers_classes(model):
        raise ValueError(_NO_CLASSES.format(type(base_of(model)).__name__))
