"""Figures of a model while it is trained, without the Trainer taking them for those of its validation data."""

from collections.abc import Mapping
from typing import Any

__all__ = ["evaluated"]


def evaluated(trainer: Any, dataset: Any, description: str, prefix: str) -> Mapping[str, Any]:
    """
    As `Trainer.evaluate`, which would log, and tell callbacks, as if `dataset` were the validation data.

    Args:
        trainer (`Trainer`): with its model, as it is.
        dataset (`Dataset`): as the Trainer takes it.
        description (`str`): what the progress bar says.
        prefix (`str`): of the names of the metrics, such as `"guard_"`.

    Returns:
        mapping from `str`: what `compute_metrics` returned, and the loss.
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
