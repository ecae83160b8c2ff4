"""
LDIFS: the L2 distance in feature space (Mukhoti, Gal, Torr, Dokania, "Fine-tuning can cripple your foundation model;
preserving features may be the solution", TMLR 2024, arXiv 2308.13320).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ftp_hf.common.labels import IGNORED_LABEL
from ftp_hf.common.precision import precise_dtype
from ftp_hf.pretrained.parts import outermost_models

from ._anchored import check_not_negative
from ._beside import Call, PretrainedBesideMixin, base_of, recorded

__all__ = ["LDIFSTrainerMixin", "ldifs_penalty", "quarters"]


def quarters(states: Sequence[Tensor]) -> list[Tensor]:
    """The first and the last of the hidden states of a model, and those at each quarter between them, once each."""
    return [states[place] for place in sorted({round(quarter * (len(states) - 1) / 4) for quarter in range(5)})]


def ldifs_penalty(pretrained: Tensor, trained: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    `‖Φ(x) − Φ⁰(x)‖₂²` of features of unit length, from 0 to 4, as the mean over the positions of each row.

    Args:
        pretrained (`Tensor`): Φ⁰, (rows, width), (rows, positions, width), or images with their channels first (rows,
            channels, height, width).
        trained (`Tensor`): Φ, of the same shape.
        mask (`Tensor`, *optional*): which positions count (rows, positions), of features of that shape; by default all do.

    Returns:
        `Tensor`: (rows,), in float32 or better.
    """
    before, after = (nn.functional.normalize(_by_position(states), dim=-1) for states in (pretrained, trained))
    squared = (after - before).square().sum(dim=-1)
    if mask is None or mask.shape != squared.shape:
        return squared.mean(dim=-1)
    return (squared * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def _by_position(states: Tensor) -> Tensor:
    states = states.to(precise_dtype(states))
    return states.unsqueeze(1) if states.ndim == 2 else states.flatten(2).transpose(1, 2) if states.ndim > 3 else states


class LDIFSTrainerMixin(PretrainedBesideMixin):
    """
    For any `Trainer` class: `loss + λ · LDIFS`, the mean of [`ldifs_penalty`] over the rows, and over hidden states at five
    depths as the authors take them: those that enter the first layer, and those after each quarter of the layers; with
    encoder and decoder, those of each. Padding does not count. Heads are not looked at, and may be new.

    Lengths are those over the channels of each position, as in LPIPS, which the authors' code follows. The code itself
    takes lengths along the tokens, and the mean over the channels where a norm has the sum: its default λ = 10, of images
    of 50 tokens, weighs about as 0.2 does here.

    A step has one more forward pass, of the pre-trained model without its head and without gradients.

    Args:
        lambda_ (`float`, *optional*, defaults to 1.0): λ, to be swept. With 0 the training is that of the Trainer class.

    Raises:
        ValueError: λ is negative; the model is none of transformers, and has none within it, as those of
            sentence-transformers have; as [`PretrainedBesideMixin`]; when training, a model without hidden states, or a
            loss that computes gradients by itself (sentence-transformers' cached ones).
    """

    method_name = "ldifs"

    def __init__(self, *args: Any, lambda_: float = 1.0, **kwargs: Any) -> None:
        check_not_negative("lambda_", lambda_)
        super().__init__(*args, **kwargs)
        self.lambda_ = lambda_

    def looked_at(self, model: nn.Module) -> nn.Module:
        """All of it but the head."""
        base = base_of(model)
        found = [part for _, part in outermost_models(base)]
        if len(found) != 1:
            raise ValueError(
                f"ldifs compares the hidden states of a model of transformers, of which {type(base).__name__} has "
                f"{len(found)} in it: hold on to weights instead, by 'l2-sp' or 'spd'"
            )
        return found[0].base_model

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """As that of the Trainer class, with the penalty while the model is trained."""
        if not (model.training and self.lambda_):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.get("labels")
        part = self.looked_at(self.accelerator.unwrap_model(model))
        with recorded(part, output_hidden_states=True) as calls:
            result: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = result if return_outputs else (result, None)
        found = []
        for call in calls:
            with self.pretrained(inputs) as pretrained:
                before = pretrained(*call.args, **call.kwargs)
            found.append(_distances(before, call, labels))
        rows = sum(len(distances) for distances in found)
        total = sum((distances.sum() for distances in found[1:]), found[0].sum())
        loss = loss + self.lambda_ * self.share(total, rows, num_items_in_batch, of_items=False)
        return (loss, outputs) if return_outputs else loss


def _distances(before: Any, call: Call, labels: Tensor | None) -> Tensor:
    """Of each row, the mean over the features."""
    after, mask = call.outputs, call.kwargs.get("attention_mask")
    answers = None if labels is None else labels != IGNORED_LABEL
    masks = {"hidden_states": mask, "encoder_hidden_states": mask, "decoder_hidden_states": answers}
    found = []
    for name, counted in masks.items():
        if (states := getattr(after, name, None)) is None:
            continue
        for start, now in zip(quarters(getattr(before, name)), quarters(states), strict=True):
            found.append(ldifs_penalty(start, now, counted))
    if not found:
        raise ValueError("ldifs compares hidden states, which the model does not give: hold on to weights, by 'l2-sp'")
    if not found[-1].requires_grad:
        raise ValueError(
            "ldifs: the features of the batch have no gradients, because the loss computes them by itself or nothing below "
            "the head is trained: use a loss that is not cached, or train without 'ldifs'"
        )
    return sum(found[1:], found[0]) / len(found)
