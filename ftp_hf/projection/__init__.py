"""
Fast Trainable Projection itself: the equations as pure tensor functions, and what makes them exact on any tensor
(dense or low-rank, whole or sharded, float64 to bfloat16) and fast on any device (`kernels/`).

Nothing here knows of optimizers, models or files. `equations.py` is the place to start.
"""

from .equations import (
    RADIUS_FLOOR,
    clip_radius,
    distance,
    project,
    projected_rows,
    radius_adam_step,
    radius_gradient,
    rests_at_anchor,
    row_blocks,
    row_norms,
    row_sums,
)
from .low_rank_tensor import LowRankProduct, LowRankUpdate

__all__ = [
    "RADIUS_FLOOR",
    "LowRankProduct",
    "LowRankUpdate",
    "clip_radius",
    "distance",
    "project",
    "projected_rows",
    "radius_adam_step",
    "radius_gradient",
    "rests_at_anchor",
    "row_blocks",
    "row_norms",
    "row_sums",
]
