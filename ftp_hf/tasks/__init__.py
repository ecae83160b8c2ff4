"""
Classification tasks on text and images: their data by name, in one label space, and how a model reads it. Nothing of
methods or Trainers; a task is a class in `TASKS`.
"""

from collections.abc import Mapping

from .data import DataOptions, TaskData
from .image import ImageOptions, ImageTask
from .text import TextOptions, TextTask

__all__ = ["TASKS", "DataOptions", "ImageOptions", "ImageTask", "TaskData", "TextOptions", "TextTask"]

TASKS: Mapping[str, type[TextTask] | type[ImageTask]] = {
    "text-classification": TextTask,
    "image-classification": ImageTask,
}
"""By what the Hub's pipelines call them."""
