"""
Real FSDP2 on gloo, which accelerate 1.15 gives to GPUs only: on the CPU it refuses, or trains with DDP in silence.

`enable()` makes Accelerate believe that the processes have accelerators; everything behind that (`fully_shard`, DTensors,
its collectives, its checkpoints) is as a user gets it.
"""

import torch
import torch.distributed as dist
from accelerate.state import PartialState
from accelerate.utils import DistributedType


def enable():
    """Call it before anything makes an `Accelerator`."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
