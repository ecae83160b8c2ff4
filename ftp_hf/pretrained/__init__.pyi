from .anchors import CheckpointAnchors
from .growing import grow_classifier
from .loading import load_weights
from .origin import new_parameters, pretrained_rows
from .rows import parameter_rows
from .statistics import new_tensors

__all__ = [
    "CheckpointAnchors",
    "grow_classifier",
    "load_weights",
    "new_parameters",
    "new_tensors",
    "parameter_rows",
    "pretrained_rows",
]
