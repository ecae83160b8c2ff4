"""Leaving a process group at the end of a worker."""

import gc

import torch.distributed as dist


def leave():
    """Call it when no trainer is in scope any more."""
    # A DDP model that outlives the process group takes it down with the GIL held, for which gloo's thread may be waiting
    # (torch 2.13, `~Reducer`).
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()
