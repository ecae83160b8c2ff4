"""Tasks by name, imported when they are asked for: some need packages that others do not."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftp_hf.common.problems import did_you_mean

from .task import Task

__all__ = ["TASKS", "task_class", "task_name"]

TASKS: Mapping[str, str] = {
    "audio-classification": "ftp_hf.tasks.audio:AudioTask",
    "automatic-speech-recognition": "ftp_hf.tasks.speech:SpeechTask",
    "text-classification": "ftp_hf.tasks.text:TextTask",
    "text-classification/multi-label": "ftp_hf.tasks.multi_label:MultiLabelTextTask",
    "text-classification/regression": "ftp_hf.tasks.regression:TextRegressionTask",
    "token-classification": "ftp_hf.tasks.tagging:TaggingTask",
    "image-classification": "ftp_hf.tasks.image:ImageTask",
    "image-classification/multi-label": "ftp_hf.tasks.multi_label:MultiLabelImageTask",
    "image-classification/regression": "ftp_hf.tasks.regression:ImageRegressionTask",
    "image-segmentation": "ftp_hf.tasks.segmentation:SegmentationTask",
    "sentence-similarity": "ftp_hf.tasks.similarity:SimilarityTask",
    "text-generation": "ftp_hf.tasks.language:LanguageTask",
}
"""Where each task is, by what the Hub's pipelines call it, and the kind of the head where it is not that of one class."""


def task_class(name: Any) -> type[Task[Any]]:
    """
    A task by name.

    Args:
        name (`str`): one of `TASKS`, or `MODULE:CLASS`, such as `my_package.my_task:MyTask`.

    Raises:
        ValueError: there is none of that name, or what is there is no [`Task`].
        ImportError: a package that it needs is missing.
    """
    module_name, colon, class_name = TASKS.get(str(name), str(name)).partition(":")
    if not (isinstance(name, str) and colon):
        meant = did_you_mean(name, TASKS)
        raise ValueError(f"task must be one of {', '.join(TASKS)}, or MODULE:CLASS of your own, got {name!r}{meant}")
    if name not in TASKS and not {"", str(Path.cwd())} & {*sys.path}:
        # A command has its own folder there, which holds no tasks.
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"task {name!r}: there is no module {error.name!r} in the working directory, {Path.cwd().name}, or among the "
            "installed packages"
        ) from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise ValueError(f"task {name!r}: {module_name} has no class {class_name!r} that inherits ftp_hf.tasks.Task")
    return kind


def task_name(kind: type[Task[Any]]) -> str:
    """What [`task_class`] finds a task by."""
    place = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, known in TASKS.items() if known == place), place)
