"""A pre-trained encoder on disk, a data set for it, and a network with batch norm."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from tests.support.baselines import VOCABULARY, WIDTH, sentences


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=8,
    )
    path = tmp_path_factory.mktemp("pretrained")
    BertModel(config).save_pretrained(path)
    return path


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
