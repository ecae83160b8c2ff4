from .anchors import CheckpointAnchors
from .growing import grow_classifier
from .loading import load_weights
from .origin import new_parameters, pretrained_rows
from .rows import parameter_rows

__all__ = [
    "CheckpointAnchors",
    "grow_classifier",
    "load_weights",
    "new_parameters",
    "parameter_rows",
    "pretrained_rows",
]
