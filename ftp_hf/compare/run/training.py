"""What a config may say of the trainings, the same for all methods."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainingArguments

from ftp_hf.common.problems import Problems

from .trackers import check_trackers
from .values import check_keys, wrong_types

__all__ = ["DECIDED", "check_training"]

DECIDED = {
    "disable_tqdm",
    "do_eval",
    "do_predict",
    "do_train",
    "eval_do_concat_batches",
    "eval_strategy",
    "greater_is_better",
    "hub_model_id",
    "include_for_metrics",
    "label_names",
    "learning_rate",
    "logging_dir",
    "metric_for_best_model",
    "output_dir",
    "parallelism_config",
    "predict_with_generate",
    "prediction_loss_only",
    "push_to_hub",
    "remove_unused_columns",
    "resume_from_checkpoint",
    "save_only_model",
    "save_strategy",
    "save_total_limit",
    "seed",
    "data_seed",
}
"""What the comparison itself decides, the same for all methods."""

_Allowed = tuple[Callable[[float], bool], str]
_POSITIVE: _Allowed = (lambda number: number > 0, "positive")
_NEVER: _Allowed = (
    lambda is_on: not is_on,
    "left out, as it rounds the trained weights but not pixels or sounds (bf16: true computes in bfloat16)",
)
_ALLOWED: Mapping[str, _Allowed] = {
    **dict.fromkeys(
        (
            "num_train_epochs",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "eval_accumulation_steps",
        ),
        _POSITIVE,
    ),
    "max_steps": (lambda steps: steps > 0 or steps == -1, "positive, or -1 for num_train_epochs"),
    "dataloader_num_workers": (lambda workers: workers >= 0, "at least 0"),
    "label_smoothing_factor": (lambda share: 0 <= share < 1, "at least 0 and below 1"),
    "bf16_full_eval": _NEVER,
    "fp16_full_eval": _NEVER,
}
"""Which values are allowed, and how that is said, where transformers would fail during a training."""


def check_training(value: dict[str, Any], kind: type[TrainingArguments]) -> None:
    """
    Check what a config has under `training`; `kind` is the class that takes it.

    Raises:
        ValueError: the comparison decides one of them, there is none of its name, or its value is not allowed.
    """
    problems = Problems()
    if decided := sorted(DECIDED & value.keys()):
        problems.append(
            f"training: {', '.join(decided)} cannot be set there: the comparison decides it for all methods"
        )
    known = {option.name for option in dataclasses.fields(kind) if option.init}
    with problems.gathered():
        check_keys("of training: ", {key: kept for key, kept in value.items() if key not in DECIDED}, known - DECIDED)
    wrong = wrong_types("training: ", kind, value)
    problems += wrong.values()
    if "report_to" not in wrong:
        with problems.gathered("training: report_to: "):
            check_trackers(value.get("report_to"))
    for key, (is_allowed, allowed) in _ALLOWED.items():
        if key not in wrong and (given := value.get(key)) is not None and not is_allowed(given):
            problems.append(f"training: {key} must be {allowed}, got {given!r}")
    for option in dataclasses.fields(kind):
        # Which transformers does not hold them to: of an unknown `train_sampling_strategy` it samples at random.
        choices, given = option.metadata.get("choices"), value.get(option.name)
        if option.name not in wrong and choices and given is not None and given not in choices:
            problems.append(f"training: {option.name} must be one of {', '.join(choices)}, got {given!r}")
    problems.raise_all()
