import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once

import pytest
import torch

from ftp_hf.common import logs

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton, which reads it once


def pytest_collection_finish():
    """Leave all that was imported out of garbage collections, which look through a million objects otherwise."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # or some libraries take all of it for leaks


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    """What was said once may be said to another test too."""
    logs.warn_once.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # Tensors are tiny here, and test processes share the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A pre-trained encoder of two layers on disk, without a classification head."""
    from tests.support.models import save_bert  # which takes transformers, of which most optimizer tests know nothing

    return save_bert(tmp_path_factory.mktemp("models") / "tiny-encoder")


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """The same with one layer, for runs that are many or long."""
    from tests.support.models import save_bert

    return save_bert(tmp_path_factory.mktemp("pretrained"), num_hidden_layers=1)


@pytest.fixture(scope="session")
def dataset():
    """40 sentences for them, whose label is which of two words has the higher number."""
    from datasets import Dataset

    tokens = torch.randint(5, 50, (40, 8), generator=torch.Generator().manual_seed(0))
    labels = (tokens[:, 1] > tokens[:, 2]).long()
    return Dataset.from_dict({"input_ids": tokens.tolist(), "labels": labels.tolist()})


@pytest.fixture
def mesh():
    """A mesh of this process alone, on gloo."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()
