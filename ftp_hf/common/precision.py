"""Which dtype differences and sums are computed in."""

import torch
from torch import Tensor

__all__ = ["precise_dtype"]


def precise_dtype(tensor: Tensor) -> torch.dtype:
    """That of the tensor, and float32 where it is of 16 bits."""
    return torch.promote_types(tensor.dtype, torch.float32)
