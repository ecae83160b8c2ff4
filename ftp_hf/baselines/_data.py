"""A data set as a Trainer's batches are made of it, beside the training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import set_seed

from ftp_hf.common.randomness import unchanged_randomness

__all__ = ["as_collated", "own_randomness"]


def as_collated(trainer: Any, dataset: Any, description: str) -> tuple[Any, Any]:
    """
    A data set, with rows as those of `train_dataset`, without the columns that the model does not take; and its collator.
    `description` is for the log.
    """
    # As `Trainer._get_dataloader` distinguishes them (transformers 5.18 to 5.23).
    if hasattr(dataset, "remove_columns"):
        return trainer._remove_unused_columns(dataset, description), trainer.data_collator
    return dataset, trainer._get_collator_with_removed_columns(trainer.data_collator, description)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed the block's random numbers; restore the previous states afterwards."""
    with unchanged_randomness():
        set_seed(seed)
        yield
