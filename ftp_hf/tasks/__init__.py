"""
What models are trained to do, a task a file: its data by name, how a model reads them, what is measured. Nothing of methods
or of how they are trained.

A task is a subclass of [`Task`]; those of the package are found by the names that the Hub's pipelines have for them, any
other by its module and name.
"""

from .data import DataOptions, TaskData
from .find import TASKS, task_class
from .image import ImageOptions, ImageTask
from .task import Task
from .text import TextOptions, TextTask

__all__ = [
    "TASKS",
    "DataOptions",
    "ImageOptions",
    "ImageTask",
    "Task",
    "TaskData",
    "TextOptions",
    "TextTask",
    "task_class",
]
