"""Checks of processes before they train together: an exact strategy, and the same projection on all of them."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import Tensor, nn

from ftp_hf.common.processes import from_all_processes
from ftp_hf.optim.base import ProjectedOptimizer
from ftp_hf.projection.sharding import is_dtensor

__all__ = ["check_agreement", "check_loaded", "check_strategy"]


_FSDP2 = (
    "FSDP2 shards whole tensors and is supported: fsdp_version: 2 in the config of accelerate launch, or fsdp=True and "
    'fsdp_config={"version": 2} in the training arguments'
)


def check_strategy(accelerator: Any) -> None:
    """
    Raise if the Trainer's accelerator would not train the weights as asked, or not exactly. One process, DDP and FSDP2 do.

    Raises:
        ValueError: FSDP1 or DeepSpeed, which flatten tensors so that rows are cut through; or FSDP was asked for where
            Accelerate has none, and trains with DDP instead.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise ValueError(f"DeepSpeed flattens the tensors whose rows are projected. {_FSDP2}.")
    if accelerator.distributed_type == DistributedType.FSDP:
        if accelerator.state.fsdp_plugin.fsdp_version == 1:
            raise ValueError(f"FSDP1 flattens the tensors whose rows are projected. {_FSDP2}.")
    elif parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(
            f"FSDP was asked for, but Accelerate would train with {accelerator.distributed_type.value} on "
            f"{accelerator.device}: it shards on accelerators only, from two processes on. Leave FSDP out (use_fsdp, "
            "fsdp), or run where there are GPUs"
        )


def check_loaded(model: nn.Module) -> None:
    """
    Raise, on every process, if parameters would be taken for one another once they are sharded. Each process has to call it.

    Where only the first process reads the checkpoint, the others hold what is new in the model as tensors without memory;
    Accelerate, which finds the sharded parameters by their addresses, would train only one of them there (accelerate 1.15,
    https://github.com/huggingface/accelerate/issues/3930).

    Raises:
        ValueError: names the parameters.
    """
    mine = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.is_meta]
    everyone = from_all_processes(mine)
    without_memory = max(everyone, key=len)
    if len(without_memory) > 1:
        raise ValueError(
            f"only the first process has loaded {', '.join(without_memory[:3])}{', …' if without_memory[3:] else ''}: "
            "the others could not tell them apart. Let every process load the model: fsdp_cpu_ram_efficient_loading: "
            'false in the config of accelerate launch, or fsdp_config={"cpu_ram_efficient_loading": False}'
        )


def check_agreement(optimizer: ProjectedOptimizer, *, compare_weights: bool) -> None:
    """
    Raise, on every process, if the processes would project differently. Each process has to call it.

    Args:
        optimizer (`ProjectedOptimizer`): with the whole parameters, before they are sharded.
        compare_weights (`bool`): whether each process should have loaded the same weights by itself. (DDP sends those of
            the first one to the others; FSDP2 takes from each process its own shard.)

    Raises:
        ValueError: names what differs, and on which processes.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    first, *others = from_all_processes(_opinions(optimizer, compare_weights=compare_weights))
    for rank, opinions in enumerate(others, start=1):
        different = sorted(key for key in first.keys() | opinions.keys() if first.get(key) != opinions.get(key))
        if different:
            raise ValueError(
                f"process {rank} would project differently from process 0, because of {', '.join(different[:3])}"
                f"{', …' if different[3:] else ''}. Start all processes with the same arguments and the same pre-trained "
                "checkpoint (on several machines, the same revision of it)"
            )


def _opinions(optimizer: ProjectedOptimizer, *, compare_weights: bool) -> dict[str, Any]:
    parameters = optimizer.projected_parameters()
    opinions: dict[str, Any] = {
        f"the parameter {name}": tuple(parameter.shape) for name, parameter in parameters.items()
    }
    for number, group in enumerate(optimizer.param_groups):
        options = {option: value for option, value in group.items() if option != "params"}
        opinions |= {f"{option} of param group {number}": repr(value) for option, value in options.items()}
    opinions |= {f"the pre-trained rows of {name}": count for name, count in optimizer.pretrained_rows.items()}
    anchors = optimizer.external_anchors
    if anchors is not None:
        opinions |= _sums("the anchor of", ((name, anchors[name]) for name in parameters))
    if compare_weights:
        opinions |= _sums("the weights of", parameters.items())
    return opinions


def _sums(what: str, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    return {f"{what} {name}": _sum_of_bits(tensor) for name, tensor in tensors if not is_dtensor(tensor)}


def _sum_of_bits(tensor: Tensor) -> int:
    """A sum that other values are unlikely to share."""
    words = {8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()]
    return int(tensor.detach().contiguous().view(words).sum(dtype=torch.int64))
