from .anchors import CheckpointAnchors
from .loading import load_weights
from .origin import new_parameters, pretrained_rows
from .rows import parameter_rows

__all__ = ["CheckpointAnchors", "load_weights", "new_parameters", "parameter_rows", "pretrained_rows"]
