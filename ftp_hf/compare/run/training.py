"""What a config may say of the trainings, alike for all methods."""

import dataclasses
from typing import Any

from transformers import TrainingArguments

from ftp_hf.common.problems import Problems

from .trackers import check_trackers
from .values import check_keys, check_positive, wrong_types

__all__ = ["DECIDED", "check_training"]

DECIDED = {
    "disable_tqdm",
    "do_eval",
    "do_predict",
    "do_train",
    "eval_strategy",
    "greater_is_better",
    "hub_model_id",
    "learning_rate",
    "load_best_model_at_end",
    "logging_dir",
    "metric_for_best_model",
    "output_dir",
    "push_to_hub",
    "remove_unused_columns",
    "resume_from_checkpoint",
    "save_only_model",
    "save_strategy",
    "save_total_limit",
    "seed",
    "data_seed",
}
"""What the comparison itself decides, alike for all methods."""


def check_training(value: dict[str, Any], kind: type[TrainingArguments]) -> None:
    """
    Check what a config has under `training`.

    Args:
        value (`dict`): arguments by name.
        kind (`type`): what takes them: `TrainingArguments`, or what the task's Trainer takes.

    Raises:
        ValueError: the comparison decides one of them, there is none of its name, or its value is not allowed.
    """
    problems = Problems()
    if decided := sorted(DECIDED & value.keys()):
        problems.append(
            f"training: {', '.join(decided)} cannot be set there: the comparison decides it for all methods"
        )
    allowed = {option.name for option in dataclasses.fields(kind) if option.init}
    with problems.gathered():
        check_keys("of training: ", {key: kept for key, kept in value.items() if key not in DECIDED}, allowed - DECIDED)
    wrong = wrong_types("training: ", kind, value)
    problems += wrong.values()
    if "report_to" not in wrong:
        with problems.gathered("training: report_to: "):
            check_trackers(value.get("report_to"))
    for key in ("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size"):
        if key not in wrong:
            with problems.gathered():
                check_positive(f"training: {key}", value.get(key))
    problems.raise_all()
