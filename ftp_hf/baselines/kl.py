"""
An anchor in the space of functions: the KL divergence from the pre-trained model's answers, added to the loss.

It is the distillation of Learning without Forgetting (Li and Hoiem, ECCV 2016, arXiv 1606.09282), which holds on to what the
original network answers on the data of the new task: there by the cross entropy of answers that a temperature has softened,
here without one. RLHF (Ouyang et al., NeurIPS 2022, arXiv 2203.02155) holds on to its start by the divergence in the other
direction, on what the model itself says.
"""

from typing import Any

from torch import Tensor

from ftp_hf.function_distance import answers_kl

from ._anchored import check_not_negative
from ._answers import Answers, AnswersMixin

__all__ = ["KLTrainerMixin"]


class KLTrainerMixin(AnswersMixin):
    """
    For any `Trainer` class: `loss + λ · mean of KL(p⁰ ‖ p)` over the answers that the loss counts: tokens of language
    models and of recognisers that are not −100, and rows of classifiers. The mean is taken as that of the loss is, so that
    neither accumulation nor processes change what a step is.

    A step has one more forward pass, of the pre-trained model, without gradients. TRL's `SFTTrainer`, which trains without
    ever having all logits, computes them for this.

    Args:
        lambda_ (`float`, *optional*, defaults to 1.0): λ, to be swept. With 0 the training is that of the Trainer class.
        new: as for [`PretrainedBesideMixin`].

    Raises:
        ValueError: λ is negative; the head, or another part of the model, is new; as [`AnswersMixin`].
    """

    method_name = "kl"

    def __init__(self, *args: Any, lambda_: float = 1.0, **kwargs: Any) -> None:
        check_not_negative("lambda_", lambda_)
        super().__init__(*args, **kwargs)
        self.lambda_ = lambda_
        if self.new:
            raise ValueError(
                f"kl: {', '.join(sorted(self.new))} are new, so that the pre-trained model has no answers to hold on to: "
                "use 'ldifs', which holds on to its features"
            )

    @property
    def active(self) -> bool:
        """Whether λ is above 0."""
        return self.lambda_ > 0

    def anchored_loss(self, loss: Tensor, answers: Answers, num_items_in_batch: Tensor | int | None) -> Tensor:
        """With the penalty."""
        found = answers_kl(answers.pretrained[answers.counted], answers.trained[answers.counted])
        return loss + self.lambda_ * self.share(found.sum(), found.numel(), num_items_in_batch)
