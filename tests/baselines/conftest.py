"""A pre-trained encoder on disk, a data set for it, and a network with batch norm."""

import pytest
import torch
from torch import nn

from tests.support.baselines import SIZES, sentences
from tests.support.models import save_bert


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("pretrained"), **SIZES)


@pytest.fixture(scope="session")
def dataset():
    return sentences(40, seed=0)


@pytest.fixture(scope="session")
def held_out():
    return sentences(20, seed=1)


@pytest.fixture
def normalized():
    """Two linear layers with a batch norm between them, and double precision for hand-computed values."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
