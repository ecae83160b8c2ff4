"""Classification tasks on text and images: their data by name, in one label space, and how a model reads it."""

from .data import DataOptions, TaskData
from .image import ImageOptions, ImageTask
from .text import TextOptions, TextTask

__all__ = ["DataOptions", "ImageOptions", "ImageTask", "TaskData", "TextOptions", "TextTask"]
