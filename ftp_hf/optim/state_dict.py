"""State dicts of projecting optimizers: which are refused, and restoring what torch's own loading would lose."""

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ftp_hf.projection.radius import RADIUS, RadiusState
from ftp_hf.projection.sharding import is_dtensor
from ftp_hf.projection.tensor import DIRECTION, HELD, placed

from .checks import check_fused, check_options
from .nested import map_tensors, same
from .options import GROUP_OPTIONS, ROUNDED_STEPS
from .rounding import MASTER, is_rounded, needs_master, per_element

__all__ = ["check_anchored", "check_sharding", "is_handed_back", "is_narrowed", "restore_dtypes", "restore_options"]


def check_sharding(state_dict: dict[str, Any], groups: Sequence[dict[str, Any]]) -> None:
    """Raise if the state to load is of whole tensors and the parameters are sharded, or the other way round."""
    for _, parameter, saved in _saved_states(state_dict, groups):
        held = saved.get(HELD)
        if held is not None and is_dtensor(held) != is_dtensor(parameter):
            kinds = ("sharded", "whole") if is_dtensor(held) else ("whole", "sharded")
            raise ValueError(
                f"the state to load is of {kinds[0]} tensors, but the parameters are {kinds[1]}: load it with "
                "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict, which shards and gathers"
            )


def restore_options(
    groups: Sequence[dict[str, Any]], saved: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]]
) -> None:
    """
    Keep the options of the projection that a loaded state does not have, and check the others. `saved` are the groups of the
    state dict, `before` those of the optimizer before it was loaded.
    """
    for group, stored, old in zip(groups, saved, before, strict=True):
        missing = [option for option in GROUP_OPTIONS if option not in stored]
        group.update({option: old[option] for option in missing if option in old})
        if "radius_lr" in stored and "radius_share" in missing:
            # The rate was in force, and no share.
            group.pop("radius_share", None)
        # Where anchors are kept, and whether there is room for masters, is a matter of this machine, not of the one that saved.
        for option in ("anchor_device", "stochastic_rounding"):
            group.pop(option, None)
            group.update({option: old[option]} if option in old else {})
        # Distributed checkpoints make lists of tuples.
        check_options(group)
        check_fused(group)


def restore_dtypes(
    state: MutableMapping[Tensor, dict[str, Any]], groups: Sequence[dict[str, Any]], state_dict: dict[str, Any]
) -> None:
    """
    Put what torch changes on loading into the state as it was saved, for the parameters that the projection keeps
    something of. torch casts tensors to the dtype of the parameter: the master of a bfloat16 weight would be rounded, and
    so would the float32 momenta that an optimizer keeps in a dict or a list, and a bfloat16 anchor of a float32 weight
    would be widened. It forgets the `maxlen` of a deque, too.

    Where the parameter is trained in another dtype than the one that was saved, tensors are cast to that.
    """
    for group, parameter, saved in _saved_states(state_dict, groups):
        if RADIUS in saved or MASTER in saved or (is_rounded(group) and needs_master(parameter)):
            state[parameter] |= _as_saved(saved, state[parameter], parameter, group)
            if parameter.dtype != torch.float64:
                state[parameter].pop(DIRECTION, None)


def is_handed_back(
    before: Mapping[Tensor, dict[str, Any]], groups: Sequence[dict[str, Any]], state_dict: dict[str, Any]
) -> bool:
    """
    Whether the state to load is the optimizer's own (`before`), as Accelerate hands it back. Any other comes with the weights
    that it was saved with.
    """
    return any(
        RADIUS in saved and saved[RADIUS] is before.get(parameter, {}).get(RADIUS)
        for _, parameter, saved in _saved_states(state_dict, groups)
    )


def is_narrowed(groups: Sequence[dict[str, Any]], state_dict: dict[str, Any]) -> bool:
    """
    Whether the weights of the loaded groups are in a narrower dtype than the loaded state, and so are not where the last
    projection left them.
    """
    return any(
        saved[RADIUS].dtype.itemsize > parameter.dtype.itemsize
        for group, parameter, saved in _saved_states(state_dict, groups)
        # The state of bfloat16 weights is in float32.
        if RADIUS in saved and MASTER not in saved and ROUNDED_STEPS not in group
    )


def check_anchored(
    parameters: Mapping[str, Tensor],
    before: Mapping[Tensor, dict[str, Any]],
    groups: Sequence[dict[str, Any]],
    state_dict: dict[str, Any],
) -> None:
    """
    Raise if projected parameters have a state to load that was trained without projection. The state that some optimizers make
    in their constructors is none: Accelerate loads it back into the optimizer (`before`) before the first step.
    """
    saved_of = {parameter: saved for _, parameter, saved in _saved_states(state_dict, groups)}
    without = [
        name
        for name, parameter in parameters.items()
        if (saved := saved_of[parameter]) and RADIUS not in saved and not same(saved, before.get(parameter, {}))
    ]
    if without:
        raise ValueError(
            f"the loaded optimizer state has no anchors for {len(without)} projected parameters ({without[0]}, …): "
            "it was saved by an optimizer without projection. Give the pre-trained weights with anchors= "
            "(ftp_anchors of the FTPTrainer), or start a new run without this state."
        )


def _saved_states(
    state_dict: dict[str, Any], groups: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Tensor, dict[str, Any]]]:
    """Group, parameter and saved state of all parameters."""
    ids = [index for group in state_dict["param_groups"] for index in group["params"]]
    parameters = [(group, parameter) for group in groups for parameter in group["params"]]
    # Whether there are as many torch says when it loads them.
    for index, (group, parameter) in zip(ids, parameters, strict=False):
        yield group, parameter, state_dict["state"].get(index, {})


def _as_saved(
    saved: dict[str, Any], loaded: dict[str, Any], parameter: Tensor, group: Mapping[str, Any]
) -> dict[str, Any]:
    trained_in = torch.float32 if needs_master(parameter) else parameter.dtype
    as_saved = saved.get(RADIUS, saved.get(MASTER))

    def as_trained(tensor: Tensor) -> Tensor:
        # What is excluded and has no master was trained in float64 where it is in it, and else in float32.
        is_other = tensor.dtype == torch.float64 if as_saved is None else as_saved.dtype != trained_in
        return tensor.to(trained_in) if is_other and tensor.is_floating_point() else tensor

    # Stochastically rounded moments are not kept when weights are in float32.
    was_rounded = ROUNDED_STEPS in group and not needs_master(parameter)
    rounded = per_element(saved, parameter, torch.bfloat16) if was_rounded else []
    # A wrapped optimizer may unpack what it saved: only tensors are known to belong where they were.
    kept = {
        key: value
        for key, value in saved.items()
        if key not in ("step", HELD, *rounded) and (isinstance(value, Tensor) or key in loaded)
    }
    state: dict[str, Any] = map_tensors(lambda tensor: as_trained(tensor).to(parameter.device), kept)
    if HELD in saved:
        state[HELD] = placed(as_trained(saved[HELD]), parameter, group["anchor_device"])
    if RADIUS in state and is_dtensor(parameter):
        # It counts the rows of one process, and nothing says which one that was.
        state[RADIUS] = state[RADIUS].clone()
        RadiusState(*state[RADIUS]).rows_projected.fill_(math.nan)
    return state
