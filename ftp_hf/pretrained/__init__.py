"""
What is known of the pre-trained model: its weights as anchors, the names it saves them under, and which parameters of
the model at hand it does not hold.

Nothing here projects or trains.
"""

from .anchors import CheckpointAnchors
from .loading import load_weights
from .origin import new_parameters

__all__ = ["CheckpointAnchors", "load_weights", "new_parameters"]
