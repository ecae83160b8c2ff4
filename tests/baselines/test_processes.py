"""Two processes with DDP train what one trains, and stay together."""

import pytest
import torch

from tests.support import baselines, launch
from tests.support.equal import assert_equal
from tests.support.workers.train_baseline import OPTIONS, train

pytestmark = pytest.mark.slow


def test_two_processes_train_what_one_trains(checkpoint, tmp_path):
    baselines.load(checkpoint).save_pretrained(tmp_path / "classifier")
    launch.fork("train_baseline.py", checkpoint, tmp_path, processes=2)
    for name in OPTIONS:
        train(name, checkpoint, tmp_path, processes=1)
        one, first, second = (torch.load(tmp_path / f"{name}-{run}.pt") for run in ("1-0", "2-0", "2-1"))
        assert_equal(first, second)
        torch.testing.assert_close(first, one, rtol=1e-4, atol=2e-6)
