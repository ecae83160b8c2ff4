"""What the trained and the pre-trained model answer a batch of the training, where the loss counts it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ftp_hf.common.labels import IGNORED_LABEL
from ftp_hf.common.replaced import replaced

from ._beside import Call, PretrainedBesideMixin, base_of, recorded

__all__ = ["Answers", "AnswersMixin", "answers_classes", "both_answers", "labelled", "logits_of", "predicts_next"]

_PROBLEMS_WITHOUT_CLASSES = ("regression", "multi_label_classification")


class Answers(NamedTuple):
    """
    Of a batch of rows, each of which has one answer, or one for each of its tokens. Some of them count.

    Args:
        pretrained (`Tensor`): logits (rows, classes) or (rows, tokens, classes) of the pre-trained model, without gradients.
        trained (`Tensor`): those of the trained one.
        labels (`Tensor`, *optional*): classes (rows,) or (rows, tokens); `None` of a batch without labels.
        counted (`Tensor`): which answers count (rows,) or (rows, tokens).
    """

    pretrained: Tensor
    trained: Tensor
    labels: Tensor | None
    counted: Tensor


class AnswersMixin(PretrainedBesideMixin):
    """
    For methods that compare answers: the one forward pass of the Trainer's own `compute_loss`, and one of the pre-trained
    model on the same inputs. The trained model is in training mode in it, with dropout, as in all training.

    The loss of an evaluation is the Trainer's.

    Raises:
        ValueError: the model has no head, or no distribution over classes for each answer (regression, several labels a
            row); as [`PretrainedBesideMixin`]; when training, outputs without logits, or labels that are not classes of
            answers (segmentation).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not answers_classes(self.model):
            raise ValueError(
                f"{self.method_name} needs a model whose answers are distributions over classes, which "
                f"{type(base_of(self.model)).__name__} does not give here: use 'ldifs', which compares features"
            )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """As that of the Trainer class, with what [`anchored_loss`] makes of the loss while the model is trained."""
        if not (model.training and self.active):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.get("labels")  # that label smoothing takes out of the inputs
        inner = self.accelerator.unwrap_model(model)
        with recorded(inner) as calls, recorded(_backbone(inner)) as states:
            result: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = result if return_outputs else (result, None)
        arguments = {name: value for name, value in calls[0].kwargs.items() if name != "fused_lm_head"}
        call = Call(calls[0].args, arguments, calls[0].outputs)
        with self.pretrained(inputs) as pretrained:
            before = logits_of(self.method_name, pretrained(*call.args, **call.kwargs))
        if hasattr(call.outputs, "log_probs"):
            # TRL's head computes the loss without logits: the model's own head computes them, from the same states.
            with replaced(_backbone(inner), forward=lambda *_, **__: states[0].outputs):
                after = inner(*call.args, **{**call.kwargs, "labels": None}).logits
        else:
            after = logits_of(self.method_name, call.outputs)
        answers = both_answers(self.method_name, before, after, labels, shifted=predicts_next(inner))
        loss = self.anchored_loss(loss, answers, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    @property
    def active(self) -> bool:
        """Whether the method changes the loss at all."""
        return True

    def anchored_loss(self, loss: Tensor, answers: Answers, num_items_in_batch: Tensor | int | None) -> Tensor:
        """The loss that is trained, from that of the Trainer class (both 0-D)."""
        raise NotImplementedError


def both_answers(method: str, pretrained: Tensor, trained: Tensor, labels: Tensor | None, *, shifted: bool) -> Answers:
    """
    The answers of both models, as [`labelled`] has them.

    Raises:
        ValueError: the models do not answer alike, or not with distributions over classes; as [`labelled`].
    """
    if pretrained.shape != trained.shape or trained.shape[-1] == 1:
        raise ValueError(
            f"{method} compares distributions over the same classes, but the outputs are {tuple(pretrained.shape)} of the "
            f"pre-trained model and {tuple(trained.shape)} of the trained one: use 'ldifs', which compares features"
        )
    after, labels, counted = labelled(method, trained, labels, shifted=shifted)
    return Answers(pretrained[:, : after.shape[1]], after, labels, counted)


def labelled(
    method: str, logits: Tensor, labels: Tensor | None, *, shifted: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """
    The answers of a model, their labels, and which of them the loss counts.

    Args:
        method (`str`): for errors.
        logits (`Tensor`): (rows, classes) or (rows, tokens, classes).
        labels (`Tensor`, *optional*): classes (rows,) or (rows, tokens), −100 where nothing is counted; without them, all is.
        shifted (`bool`): whether a token is the label of the answer at the token before it.

    Raises:
        ValueError: labels are not the class of each answer.
    """
    if labels is None:
        return logits, None, torch.ones_like(logits[..., 0], dtype=torch.bool)
    if shifted:
        logits, labels = logits[:, :-1], labels[:, 1:]
    if labels.is_floating_point() or labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"{method} needs a class for each answer, but labels are {labels.dtype} of the shape {tuple(labels.shape)} for "
            f"logits of {tuple(logits.shape)}: use 'ldifs', which compares features"
        )
    return logits, labels, labels != IGNORED_LABEL


def answers_classes(model: nn.Module) -> bool:
    """Whether the answers of a model are distributions over classes, so far as that is known before it answers."""
    base = base_of(model)
    config = getattr(base, "config", None)
    headless = base.base_model is base if isinstance(base, PreTrainedModel) else hasattr(base, "encode")
    other = getattr(config, "problem_type", None) in _PROBLEMS_WITHOUT_CLASSES or getattr(config, "num_labels", 2) == 1
    return not (headless or other)


def logits_of(method: str, outputs: Any) -> Tensor:
    """The logits of a model's outputs; `ValueError` where there are none, in the name of the method."""
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"{method} needs logits, which the outputs of the model do not have: use 'ldifs', which compares features"
        )
    return logits


def _backbone(model: nn.Module) -> nn.Module:
    """The part of a model of transformers below its head."""
    base = base_of(model)
    return base.base_model if isinstance(base, PreTrainedModel) else base


def predicts_next(model: nn.Module) -> bool:
    """Whether the model's own loss shifts the labels."""
    base = base_of(model)
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return False
    causal = LOSS_MAPPING.get(getattr(base, "loss_type", None) or "") is ForCausalLMLoss
    return causal or type(base).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
