"""Anchors that an optimizer is given, as its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ftp_hf.pretrained.anchors import open_anchors
from ftp_hf.projection.sharding import local

from .options import Anchors

__all__ = ["own_anchors"]


def own_anchors(anchors: Anchors, groups: Sequence[dict[str, Any]]) -> Mapping[str, Tensor]:
    """
    The anchors by parameter name, none of them in the memory of a parameter.

    Args:
        anchors (mapping from `str` to `Tensor`, `str` or `Path`): as for [`FTPAdamW`].
        groups (sequence of `dict`): the param groups.
    """
    opened = open_anchors(anchors)
    if not isinstance(opened, dict):
        return opened
    # Tensors that share memory with the parameters (`model.state_dict()`) would be trained with them.
    trained = {_memory(parameter) for group in groups for parameter in group["params"]}
    return {name: anchor.detach().clone() if _memory(anchor) in trained else anchor for name, anchor in opened.items()}


def _memory(tensor: Tensor) -> int:
    return local(tensor).untyped_storage().data_ptr()
