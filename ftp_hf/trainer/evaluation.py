"""
Evaluations: of every row, with a loss that does not depend on the number of processes, and without a trace in the training
that follows.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import TrainOutput

from ftp_hf.common.host import Host
from ftp_hf.common.labels import IGNORED_LABEL
from ftp_hf.common.processes import from_all_processes
from ftp_hf.common.replaced import replaced
from ftp_hf.optim.unwrap import projected_optimizer

__all__ = ["EvaluationMixin", "evaluated"]

_PREPARED = "_is_accelerate_prepared"
"""What accelerate (1.13 to 1.15) marks a model with, so that it is wrapped only once."""


class EvaluationMixin(Host):
    """
    For any `Trainer` class: what is measured does not depend on arguments that are meant for training, and training does not
    depend on what was measured before. All this is so in transformers up to 5.23:

    - `dataloader_drop_last`, which sentence-transformers sets under DDP, leaves out the last rows of an evaluation too.
    - `Seq2SeqTrainer` counts rows twice that fill up the last batch of several processes.
    - `average_tokens_across_devices` multiplies the loss by the number of processes, also for models that take a mean over
      their own rows.
    - `logging_nan_inf_filter`, which is on by default, leaves out batches whose loss is not finite: a model that answers NaN to
      some rows has the loss of the others. Only a batch none of whose labels count may be left out.
    - `bf16_full_eval` and `fp16_full_eval` round the weights for good, and with them the anchors of tensors at the floor,
      which are kept there.
    - A model that is evaluated before its first training is not wrapped in DDP afterwards: each process would train alone.
    """

    _has_lost_rows = False

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`, but wraps a model that was already evaluated."""
        is_replicated = self.args.world_size > 1 and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        if is_replicated and self.model_wrapped is self.model and getattr(self.model, _PREPARED, False):
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            for module in self.model.modules():  # an adapter may have been put around what was evaluated
                vars(module).pop(_PREPARED, None)
        return super().train(*args, **kwargs)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """As `Trainer.get_eval_dataloader`, with the last batch."""
        with replaced(self.args, dataloader_drop_last=False):
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """As `Trainer.get_test_dataloader`, with the last batch."""
        with replaced(self.args, dataloader_drop_last=False):
            return super().get_test_dataloader(test_dataset)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.evaluation_loop`, with each row once, and the loss of each process over all of its own rows."""
        if not self.is_in_train and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            projected = projected_optimizer(self.optimizer)
            if projected is not None:
                projected.release_weights()
        self.gather_function = partial(
            self.accelerator.gather_for_metrics, use_gather_object=self.args.eval_use_gather_object
        )
        self._has_lost_rows = False  # as prediction_step finds out
        with replaced(self.args, average_tokens_across_devices=False):
            output = super().evaluation_loop(*args, **kwargs)
        if output.metrics is not None and any(from_all_processes(self._has_lost_rows)):
            output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = math.nan
        return output

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """As `Trainer.prediction_step`; takes down whether rows whose labels count have no finite loss."""
        given = [inputs[name] for name in self.label_names if inputs.get(name) is not None]
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        if loss is not None and not torch.isfinite(loss).all():
            ignored = getattr(getattr(self.model, "config", None), "semantic_loss_ignore_index", IGNORED_LABEL)
            self._has_lost_rows |= not given or any(_counts(each, {IGNORED_LABEL, ignored}) for each in given)
        return loss, logits, labels


def _counts(labels: Any, ignored: set[int]) -> bool:
    """Whether any label of a batch is not to be ignored; what is no class always counts."""
    is_classes = isinstance(labels, Tensor) and not labels.is_floating_point()
    return not is_classes or bool({*labels.unique().tolist()} - ignored)


def evaluated(trainer: Any, dataset: Any, description: str, prefix: str) -> Mapping[str, Any]:
    """
    What `compute_metrics` returns on `dataset`, and the loss, under names that start with `prefix`, such as `"guard_"`;
    `description` is for the progress bar. `Trainer.evaluate` would log them, and call callbacks, as if they were of the
    validation data.
    """
    key = prefix.rstrip("_")
    if trainer.compute_metrics is not None and getattr(trainer.args, "predict_with_generate", False):
        # `Seq2SeqTrainer` says here how much is generated, and how; its loop goes by what was said last, if anything was.
        return trainer.predict(dataset, metric_key_prefix=key).metrics or {}
    # `get_eval_dataloader` gives the loader of the validation data to all, with persistent workers.
    output = trainer.evaluation_loop(
        trainer.get_test_dataloader(dataset),
        description=description,
        prediction_loss_only=True if trainer.compute_metrics is None else None,
        metric_key_prefix=key,
    )
    return output.metrics or {}
