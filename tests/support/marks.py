"""Marks that tests share."""

import pytest
import torch

INTERPRETED = pytest.mark.skipif(
    torch.cuda.is_available(), reason="where there is a GPU, Triton compiles its kernels, which then run there alone"
)
