"""The options of the projection, which all optimizers share: their names, types and defaults."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor
from torch.optim import Optimizer

from ftp_hf.common.names import first_match, matches
from ftp_hf.projection.equations import RowDim
from ftp_hf.projection.low_rank_tensor import LowRankUpdate

__all__ = [
    "ADJUSTABLE",
    "DEFAULTS",
    "GROUP_OPTIONS",
    "ROUNDED_STEPS",
    "SET_ASIDE",
    "Anchors",
    "GroupOptions",
    "ProjectionOptions",
    "adjustable_options",
    "group_options",
    "pretrained_rows_of",
    "row_dim_of",
    "unchanged_if_refused",
]

Anchors = Mapping[str, Tensor] | str | Path
"""The pre-trained weights by parameter name, or the path of a checkpoint."""


class GroupOptions(TypedDict, total=False):
    """What an optimizer and each of its param groups may set; [`FTPAdamW`] says what it does."""

    kappa: float
    radius_lr: float
    radius_share: float | None
    radius_betas: tuple[float, float]
    exclude: Sequence[str]
    transposed: Sequence[str]
    anchor_device: str | None
    stochastic_rounding: bool


class ProjectionOptions(GroupOptions, total=False):
    """What an optimizer may set; [`FTPAdamW`] says what it does."""

    anchors: Anchors | None
    low_rank: Sequence[LowRankUpdate]
    rows: Mapping[str, Sequence[int]]
    pretrained_rows: Mapping[str, int]


DEFAULTS: GroupOptions = {
    "kappa": 1.0,
    "radius_lr": 1e-2,
    "radius_share": None,
    "radius_betas": (0.9, 0.999),
    "exclude": (),
    "transposed": (),
    "anchor_device": None,
    "stochastic_rounding": False,
}

ADJUSTABLE = ("kappa", "radius_lr", "radius_share", "radius_betas")
"""The options of a param group that may change within a run: they say how radii are learned, not what is projected."""

ROUNDED_STEPS = "rounded_steps"
"""The key of a param group that counts its steps with `stochastic_rounding`."""

GROUP_OPTIONS = (*DEFAULTS, "project", ROUNDED_STEPS)
"""The keys of a param group that are the projection's."""

_ONLY_WHERE_SET = ("radius_share", "stochastic_rounding")
"""
The options that a param group has no key for where they are as by default: sharded checkpoints that were written before there were
these options lack the keys too, and torch loads only checkpoints with all of the keys that it looks for.
"""

SET_ASIDE = "wrapped_"
"""In front of the key of an option that the wrapped optimizer has under the same name."""


def adjustable_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a param group that may change within a run ([`ADJUSTABLE`])."""
    return {option: group.get(option) for option in ADJUSTABLE} | {"radius_betas": tuple(group["radius_betas"])}


def row_dim_of(name: str, group: Mapping[str, Any], rows: Mapping[str, tuple[int, ...]]) -> RowDim:
    """Which dimensions count the rows of a parameter, by its name: what `rows` says, or else its param group."""
    pattern = first_match(name, tuple(rows))
    if pattern is not None:
        return rows[pattern]
    return 1 if matches(name, group["transposed"]) else 0


def pretrained_rows_of(name: str, pretrained_rows: Mapping[str, int]) -> int | None:
    """How many of the first rows of a parameter have a pre-trained value, by its name; `None` if all."""
    pattern = first_match(name, tuple(pretrained_rows))
    return None if pattern is None else pretrained_rows[pattern]


def group_options(optimizer: str, options: ProjectionOptions) -> dict[str, Any]:
    """
    What the param groups take from the given options of their optimizer, where they say nothing themselves. `optimizer` is its
    name in the error.

    Raises:
        TypeError: there is no such option.
    """
    for option in options.keys() - ProjectionOptions.__optional_keys__:
        raise TypeError(f"{optimizer}.__init__() got an unexpected keyword argument {option!r}")
    given = {option: value for option, value in options.items() if option in DEFAULTS}
    by_default: dict[str, Any] = {**DEFAULTS}
    filled = {**by_default, **given, "project": True}
    # By identity: a share of 0, which is equal to `False`, holds the radii where they are.
    unset = {option for option in _ONLY_WHERE_SET if filled[option] is by_default[option]}
    return {option: value for option, value in filled.items() if option not in unset}


@contextmanager
def unchanged_if_refused(optimizer: Optimizer) -> Iterator[None]:
    """Leave an optimizer as it was if the block raises: refused options that stayed would win over those of a second attempt."""
    attributes = vars(optimizer).copy()
    groups = [(group, group.copy()) for group in optimizer.param_groups]
    try:
        yield
    except Exception:
        vars(optimizer).update(attributes)
        for group, options in groups:
            group.clear()
            group.update(options)
        raise
