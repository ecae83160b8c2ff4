"""What processes that train together send to one another."""

from typing import TypeVar

import torch
import torch.distributed

__all__ = ["from_all_processes", "from_first_process"]

Value = TypeVar("Value")


def from_first_process(value: Value) -> Value:
    """The first process's value, which can be pickled, on all of them. Each of them has to call it."""
    values = [value]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def from_all_processes(value: Value) -> list[Value]:
    """The value of every process, in their order, on all of them. It can be pickled. Each of them has to call it."""
    if not torch.distributed.is_initialized():
        return [value]
    values = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
