"""Anchors that share their memory with what is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ftp_hf.projection.sharding import local

__all__ = ["apart_from_parameters"]


def apart_from_parameters(anchors: Mapping[str, Tensor], groups: Sequence[dict[str, Any]]) -> Mapping[str, Tensor]:
    """
    The anchors, copied where they share memory with the parameters (`model.state_dict()`): they would be trained with them.

    Args:
        anchors (mapping from `str` to `Tensor`): by parameter name. Other mappings than a `dict` read them from a file.
        groups (sequence of `dict`): the param groups.
    """
    if not isinstance(anchors, dict):
        return anchors
    trained = {_memory(parameter) for group in groups for parameter in group["params"]}
    return {name: anchor.detach().clone() if _memory(anchor) in trained else anchor for name, anchor in anchors.items()}


def _memory(tensor: Tensor) -> int:
    return local(tensor).untyped_storage().data_ptr()
