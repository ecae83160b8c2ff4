"""
FLOW: samples weigh more the easier the pre-trained model finds them (Sanyal, Prairie, Das, Kavis, Sanghavi, "Upweighting
Easy Samples in Fine-Tuning Mitigates Forgetting", ICML 2025, arXiv 2502.02797).
"""

import itertools
import statistics
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ftp_hf.common.precision import precise_dtype
from ftp_hf.common.processes import from_all_processes

from ._answers import Answers, AnswersMixin, labelled, logits_of, predicts_next
from ._data import as_collated, own_randomness

__all__ = ["FLOWTrainerMixin", "ProbedFLOWTrainerMixin", "flow_weights"]


def flow_weights(pretrained_losses: Tensor, temperature: float) -> Tensor:
    """
    `wᵢ = exp(−fᵢ(θ*) / τ)` (the paper's Algorithm 1), which are not normalised, as there.

    Args:
        pretrained_losses (`Tensor`): `fᵢ(θ*)`, the loss of each sample under the pre-trained model; any shape.
        temperature (`float`): τ. The greater it is, the more alike samples weigh; infinite, all weigh 1.

    Returns:
        `Tensor`: between 0 and 1, of the same shape.
    """
    return torch.exp(-pretrained_losses / temperature)


class FLOWTrainerMixin(AnswersMixin):
    """
    For any `Trainer` class: `L(θ) = Σ wᵢ fᵢ(θ)` with the cross entropy of each sample, normalised as the Trainer normalises
    its loss. A sample is a row; its pre-trained loss is the mean over its answers that count (a sequence's tokens), as the
    authors have it. τ is the median of the pre-trained losses, as in all of the paper's experiments: one pass over the
    training data, before the first step.

    Weights are computed with each batch, as in the authors' code for images, which weighs what augmentation made of a row.
    Where a row is always the same, so is its weight. A step has one more forward pass, of the pre-trained model, without
    gradients. A run that is resumed makes the pass for τ again, with the same random numbers.

    Args:
        temperature (`float`, *optional*): τ; by default the median.
        new: as for [`PretrainedBesideMixin`].

    Raises:
        ValueError: τ is not positive; the head, or another part of the model, is new; a loss that is not the cross entropy
            (label smoothing, `compute_loss_func`, TRL's `loss_type`, experts with a loss of their own); rows that are
            packed into one; without a temperature, training data of unknown length, or without any loss; as
            [`AnswersMixin`].
    """

    method_name = "flow"

    probed = False
    """Whether new parameters have been fitted already."""

    def __init__(self, *args: Any, temperature: float | None = None, **kwargs: Any) -> None:
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}; None takes the median")
        super().__init__(*args, **kwargs)
        self.temperature = temperature
        if self.new and not self.probed:
            raise ValueError(
                f"{self.method_name}: {', '.join(sorted(self.new))} are new, so that losses of the pre-trained model mean "
                "nothing: fit them first, by 'linear-probe', and go on with ProbedFLOWTrainerMixin ('lp-flow')"
            )
        _check_cross_entropy(self)
        if temperature is None and not hasattr(self.train_dataset, "__len__") and self.train_dataset is not None:
            raise ValueError(
                f"{self.method_name}: the training data has no length to find a median in: give a temperature"
            )

    def anchored_loss(self, loss: Tensor, answers: Answers, num_items_in_batch: Tensor | int | None) -> Tensor:
        """The weighted loss, instead of the Trainer's."""
        del loss
        if self.temperature is None:
            self.temperature = self._median()
        losses, counts = _row_losses(self.method_name, answers.trained, answers.labels, answers.counted)
        before, _ = _row_losses(self.method_name, answers.pretrained, answers.labels, answers.counted)
        weights = flow_weights(before / counts.clamp(min=1), self.temperature)
        return self.share((weights * losses).sum(), counts.sum(), num_items_in_batch)

    def _median(self) -> float:
        rows, collate = as_collated(self, self.train_dataset, "training")
        size = self.args.per_device_train_batch_size
        places = range(len(rows))
        parts = [list(places[start : start + size]) for start in places[::size]]
        mine = parts[self.args.process_index :: self.args.world_size]
        found: list[float] = []
        with own_randomness(self.args.seed):
            for batch in DataLoader(rows, batch_sampler=mine, collate_fn=collate, generator=torch.Generator()):
                found += self._pretrained_losses(self._prepare_inputs(batch))
        losses = [*itertools.chain.from_iterable(from_all_processes(found))]
        median = statistics.median(losses) if losses else 0.0
        if not median > 0:
            raise ValueError(
                f"{self.method_name}: the median of the pre-trained losses is {median}: give a temperature"
            )
        return median

    def _pretrained_losses(self, inputs: dict[str, Any]) -> list[float]:
        """Of the rows of a batch that have answers that count."""
        with self.pretrained(inputs) as pretrained:
            logits = logits_of(self.method_name, pretrained(**inputs))
        answers = labelled(self.method_name, logits, inputs.get("labels"), shifted=predicts_next(self.model))
        losses, counts = _row_losses(self.method_name, *answers)
        return (losses / counts)[counts > 0].tolist()


class ProbedFLOWTrainerMixin(FLOWTrainerMixin):
    """
    FLOW on a model whose new head was fitted to the frozen features before ([`LinearProbeTrainerMixin`]), as in the paper's
    experiments on images: its losses are those of the pre-trained model. The authors fit the head once more afterwards,
    by a loss without weights, which is left to the user.
    """

    method_name = "lp-flow"

    probed = True


def _row_losses(method: str, logits: Tensor, labels: Tensor | None, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row, the sum of the cross entropies of its answers that count (rows,), and how many these are (rows,)."""
    if labels is None:
        raise ValueError(f"{method} weighs the losses of labels, which the batch does not have: give it labels")
    answers = logits[counted]
    found = nn.functional.cross_entropy(answers.to(precise_dtype(answers)), labels[counted], reduction="none")
    losses = torch.zeros_like(counted, dtype=found.dtype).masked_scatter(counted, found)
    rows = len(losses)
    return losses.reshape(rows, -1).sum(dim=1), counted.reshape(rows, -1).sum(dim=1)


def _check_cross_entropy(trainer: FLOWTrainerMixin) -> None:
    args, config = trainer.args, getattr(trainer.model, "config", None)
    other = {
        "label_smoothing_factor=0": args.label_smoothing_factor,
        "compute_loss_func=None": trainer.compute_loss_func is not None,
        "loss_type='nll'": getattr(args, "loss_type", "nll") != "nll",
        "output_router_logits=False": getattr(config, "output_router_logits", False),
        "packing=False": getattr(args, "packing", False),
        "padding_free=False": getattr(trainer, "padding_free", False),
    }
    if wanted := [name for name, is_other in other.items() if is_other]:
        raise ValueError(f"{trainer.method_name} weighs the cross entropies of single rows: set {', '.join(wanted)}")
