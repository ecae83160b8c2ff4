from .anchors import CheckpointAnchors
from .loading import load_weights
from .origin import new_parameters

__all__ = ["CheckpointAnchors", "load_weights", "new_parameters"]
