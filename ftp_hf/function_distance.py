"""
How far a fine-tuned model is from its pre-trained one as a function: how differently it answers the same inputs.

The distance of weights bounds this ([`~ftp_hf.distance`]), but two models far apart in weights may answer alike.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ftp_hf.common.modes import evaluation_mode
from ftp_hf.common.precision import precise_dtype

__all__ = ["answers_kl", "counted_answers", "distance_from", "function_distance", "hidden_change", "measured_kl"]

Answers = Callable[[nn.Module, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
"""A model and a batch → what it answers, (…, width), and which of the answers count, (…)."""


def answers_kl(pretrained: Tensor, fine_tuned: Tensor) -> Tensor:
    """
    `KL(p⁰ ‖ p) = Σ_classes p⁰ (log p⁰ − log p)` of each answer, in nats: what is lost by taking the fine-tuned model's answers
    for the pre-trained one's. It is the cross entropy of these, less their entropy, which has no gradient.

    Args:
        pretrained (`Tensor`): logits (answers, classes), whose softmax is p⁰.
        fine_tuned (`Tensor`): logits (answers, classes), whose softmax is p.

    Returns:
        `Tensor`: (answers,), float32, or float64 if the logits are.
    """
    before, after = (logits.to(precise_dtype(logits)).log_softmax(dim=-1) for logits in (pretrained, fine_tuned))
    return nn.functional.kl_div(after, before, reduction="none", log_target=True).sum(dim=-1)


def measured_kl(pretrained: Tensor, fine_tuned: Tensor) -> Tensor:
    """[`answers_kl`], which rounding leaves a little below zero where the answers are equal, as a distance: no less than zero."""
    return answers_kl(pretrained, fine_tuned).clamp(min=0)


def hidden_change(pretrained: Tensor, fine_tuned: Tensor) -> Tensor:
    """
    `‖h − h0‖₂ / ‖h0‖₂` of each state. A pre-trained state of zero has no relative change, and does not count.

    Args:
        pretrained (`Tensor`): states (answers, width).
        fine_tuned (`Tensor`): of the same shape.

    Returns:
        `Tensor`: (answers whose pre-trained state is not zero,), float32, or float64 if the states are.
    """
    before, after = (states.to(precise_dtype(states)) for states in (pretrained, fine_tuned))
    change, length = ((after - before).norm(dim=-1), before.norm(dim=-1))
    is_zero = length < torch.finfo(length.dtype).tiny
    ratio: Tensor = change[~is_zero] / length[~is_zero]
    return ratio


@torch.no_grad()
def function_distance(
    model: nn.Module,
    pretrained: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    answers: Answers,
    compare: Callable[[Tensor, Tensor], Tensor] = measured_kl,
) -> float:
    """
    The mean over all answers that count of how differently two models answer.

    Args:
        model (`nn.Module`): fine-tuned.
        pretrained (`nn.Module`): what it was fine-tuned from, on the same device.
        batches (iterable of mappings): inputs of both.
        answers (callable): what is compared, as [`Task.logits`] or [`Task.hidden`].
        compare (callable, *optional*): [`measured_kl`] of logits, where both have the same classes, or [`hidden_change`].
            It may leave out answers, which then do not count.

    Raises:
        ValueError: there is no answer that counts.

    Example:
        ```python
        distance = function_distance(model, pretrained, batches, lambda m, b: (m(**b).logits, b["labels"] != -100))
        ```
    """
    return distance_from(
        ((counted_answers(pretrained, batch, answers), batch) for batch in batches), model, answers, compare
    )


@torch.no_grad()
def counted_answers(model: nn.Module, batch: Mapping[str, Tensor], answers: Answers) -> Tensor:
    """
    Those answers of a model that count, (answers, width).

    Args:
        model (`nn.Module`): any.
        batch (mapping from `str` to `Tensor`): inputs.
        answers (callable): as for [`function_distance`].
    """
    with evaluation_mode(model):
        given, counted = answers(model, batch)
    return given[counted]


@torch.no_grad()
def distance_from(
    pretrained: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    model: nn.Module,
    answers: Answers,
    compare: Callable[[Tensor, Tensor], Tensor] = measured_kl,
) -> float:
    """
    As [`function_distance`], from answers that are known.

    Args:
        pretrained (iterable of pairs): what [`counted_answers`] of the pre-trained model are to a batch, and the batch.
        model (`nn.Module`): fine-tuned.
        answers (callable): as for [`function_distance`].
        compare (callable, *optional*): as for [`function_distance`].

    Raises:
        ValueError: there is no answer that counts.
    """
    total, count = 0.0, 0
    for before, batch in pretrained:
        found = compare(before, counted_answers(model, batch, answers))
        total, count = total + found.double().sum().item(), count + found.numel()
    if not count:
        raise ValueError(
            "batches hold no answer that counts: pass inputs, with labels other than -100 where there are labels, and of "
            "whose pre-trained states, where states are compared, some are not zero"
        )
    return total / count
