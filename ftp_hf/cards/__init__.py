"""
The model card of a run, made of its [`RunSummary`]: tables, sentences, a snippet and a picture. No torch, and nothing of the
Hub but its metadata; the summary is put together elsewhere.
"""

from .card import model_card, update_card, write_model_card
from .picture import draw_radii

__all__ = ["draw_radii", "model_card", "update_card", "write_model_card"]
