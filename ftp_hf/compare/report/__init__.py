"""
The pages and charts of a comparison, made of its results alone. No torch, no statistics of its own; matplotlib is
imported when charts are drawn.
"""

from .write import write_report

__all__ = ["write_report"]
