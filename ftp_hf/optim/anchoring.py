"""Anchors that an optimizer is given, as its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ftp_hf.pretrained.anchors import open_anchors
from ftp_hf.projection.first_state import first_states, low_rank_first_states
from ftp_hf.projection.low_rank_tensor import LowRankTensor
from ftp_hf.projection.sharding import local, local_part_of
from ftp_hf.projection.tensor import ProjectedTensor

from .checks import check_parameter
from .options import Anchors

__all__ = ["anchor_of", "otherwise_anchored", "own_anchors", "states_before"]


def own_anchors(anchors: Anchors, groups: Sequence[dict[str, Any]]) -> Mapping[str, Tensor]:
    """The anchors by parameter name, none of them in the memory of a parameter."""
    opened = open_anchors(anchors)
    if not isinstance(opened, dict):
        return opened
    # Tensors that share memory with the parameters (`model.state_dict()`) would be trained with them.
    trained = {_memory(parameter) for group in groups for parameter in group["params"]}
    return {name: anchor.detach().clone() if _memory(anchor) in trained else anchor for name, anchor in opened.items()}


def anchor_of(tensor: ProjectedTensor, anchor: Tensor, parameter: Tensor) -> Tensor:
    """
    The given anchor of a tensor, in the parameter's own dtype: the weights that the pre-trained model would run with. `anchor`
    is whole; where only the first rows are projected, it has these or more. The tensor may be the float32 master of the
    parameter.
    """
    whole = anchor.detach()
    if tensor.pretrained_rows is not None and whole.shape != parameter.shape:
        others = whole.new_zeros(parameter.shape[0] - tensor.pretrained_rows, *whole.shape[1:])
        whole = torch.cat([whole[: tensor.pretrained_rows], others])
    return tensor.projected(local_part_of(whole, parameter)).to(tensor.weight.device, parameter.dtype)


def states_before(
    tensors: Sequence[ProjectedTensor | LowRankTensor],
    anchors: Mapping[str, Tensor] | None,
) -> list[dict[str, Tensor]]:
    """
    The states of tensors before their first step. Low-rank updates come first, in the tensors and in the states. An anchor is
    the given whole one, or the weight as it is.

    Raises:
        ValueError: a parameter cannot be projected.
    """
    low_rank = [tensor for tensor in tensors if isinstance(tensor, LowRankTensor)]
    dense = [tensor for tensor in tensors if isinstance(tensor, ProjectedTensor)]
    for tensor in dense:
        check_parameter(tensor.name, tensor.source, tensor.row_dim)

    def anchor(tensor: ProjectedTensor) -> Tensor:
        if anchors is None:
            return tensor.weight.detach()
        return anchor_of(tensor, anchors[tensor.name], tensor.source)

    return low_rank_first_states(low_rank) + first_states(dense, anchor)


def otherwise_anchored(
    tensors: Sequence[ProjectedTensor], anchors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> list[str]:
    """
    The names of the tensors, which have taken a step, whose anchors are not the given whole ones. `parameters` has those of the
    model, by the names of the tensors.
    """
    return [
        tensor.name
        for tensor in tensors
        if not torch.equal(
            tensor.anchor(), anchor_of(tensor, anchors[tensor.name], parameters[tensor.name]).to(tensor.weight.dtype)
        )
    ]


def _memory(tensor: Tensor) -> int:
    return local(tensor).untyped_storage().data_ptr()
