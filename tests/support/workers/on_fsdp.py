"""
Run an example whose Accelerate believes that its processes have accelerators, so that it shards on the CPU too.

    accelerate launch --config_file examples/accelerate/fsdp2.yaml tests/support/workers/on_fsdp.py EXAMPLE ARGUMENTS
"""

import os
import runpy
import sys

import finetuning
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from ftp_hf import FTPTrainer
from tests.support import fsdp_on_cpu


class ShardingTrainer(FTPTrainer):
    """Fails unless it sharded."""

    def train(self, *args, **kwargs):
        result = super().train(*args, **kwargs)
        assert self.accelerator.distributed_type == DistributedType.FSDP
        assert self.accelerator.num_processes == int(os.environ["WORLD_SIZE"]) > 1
        assert all(isinstance(parameter, DTensor) for parameter in self.model.parameters())
        return result


if __name__ == "__main__":
    fsdp_on_cpu.enable()
    finetuning.FTPTrainer = ShardingTrainer
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
