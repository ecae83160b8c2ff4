"""Trainings in a tracker of transformers: one run for each, named alike in all of them, in a group for each comparison."""

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import patch_environment
from transformers import integrations

__all__ = ["WATCHING", "check_trackers", "tracked", "tracker_arguments"]

WATCHING = {
    "report_to",
    "run_name",
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "logging_steps",
    "logging_strategy",
    "logging_first_step",
}
"""Arguments of a training that say how it is watched, which is no part of what is trained."""

_FOLDER = "tensorboard"


def check_trackers(value: str | list[str] | None) -> None:
    """Raise `ValueError` if transformers knows no such tracker of `report_to`, or its package is not installed."""
    known: Any = integrations
    there = known.get_available_reporting_integrations()
    for name in _asked(value):
        if name not in ("all", *there):
            known.get_reporting_integration_callbacks([name])  # which raises what it does not know
            raise ValueError(f"{name!r} is not installed; of those that are there is {', '.join(there) or 'none'}")


def tracker_arguments(training: Mapping[str, Any], group: str, name: str) -> dict[str, Any]:
    """
    The arguments with which a training is tracked; none if it is not. `training` is the config's: `report_to` and, of trackio,
    `project`. `group` is the name of the comparison, `name` that of the run.
    """
    asked = _asked(training.get("report_to"))
    return {"report_to": asked, "project": training.get("project", group), "run_name": name} if asked else {}


@contextmanager
def tracked(training: Mapping[str, Any], group: str, name: str, run: Path, *, resumes: bool) -> Iterator[None]:
    """
    Say to the trackers what no argument says: in which folder TensorBoard finds the run, and which run of which group it is in
    W&B. The environment is as before afterwards. Unless the training resumes, what TensorBoard has of another one of this name
    is deleted.
    """
    asked = _asked(training.get("report_to"))
    if not asked:
        yield
        return
    folder = run.parent.with_name(_FOLDER) / name
    if not resumes and PartialState().is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    place = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:8]
    said = {
        "TENSORBOARD_LOGGING_DIR": str(folder),
        "WANDB_RUN_GROUP": group,
        "WANDB_RUN_ID": f"{run.name}-{place}",
        "WANDB_RESUME": "allow",
    }
    try:
        with patch_environment(**said):
            yield
    finally:
        # Its callback leaves the run open, to which the next training would be added; and it reads the environment once.
        if {"all", "wandb"} & {*asked} and (wandb := sys.modules.get("wandb")) is not None:
            wandb.finish()
            wandb.teardown()


def _asked(value: str | list[str] | None) -> list[str]:
    names = [value] if isinstance(value, str) else value or []
    return [name for name in names if name != "none"]
