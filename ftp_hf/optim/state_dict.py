"""State dicts of projecting optimizers: what is refused, and the dtypes that loading would lose."""

from collections.abc import Sequence
from typing import Any

from ftp_hf.projection.sharding import is_dtensor
from ftp_hf.projection.tensor import HELD

__all__ = ["check_sharding"]


def check_sharding(state_dict: dict[str, Any], groups: Sequence[dict[str, Any]]) -> None:
    """Raise if the state to load is of whole tensors and the parameters are sharded, or the other way round."""
    ids = [index for group in state_dict["param_groups"] for index in group["params"]]
    for index, parameter in zip(ids, (p for group in groups for p in group["params"]), strict=False):
        held = state_dict["state"].get(index, {}).get(HELD)
        if held is not None and is_dtensor(held) != is_dtensor(parameter):
            kinds = ("sharded", "whole") if is_dtensor(held) else ("whole", "sharded")
            raise ValueError(
                f"the state to load is of {kinds[0]} tensors, but the parameters are {kinds[1]}: load it with "
                "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict, which shards and gathers"
            )
