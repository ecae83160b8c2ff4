"""
Which options of the projection are in force in a run, and since when: kept beside the optimizer's state in a checkpoint,
because that state comes with the options of the run that saved it, and a resumed run may ask for others.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftp_hf.common.folder import OPTIONS
from ftp_hf.common.names import matches
from ftp_hf.common.privacy import public_value
from ftp_hf.common.records import build, plain
from ftp_hf.optim.base import ProjectedOptimizer
from ftp_hf.optim.options import ADJUSTABLE, adjustable_options
from ftp_hf.optim.radii import Radius
from ftp_hf.runs.facts import EarlierOptions

from .arguments import FTPArguments, named_anchors

__all__ = [
    "OptionsInForce",
    "asked_of_groups",
    "excluded_names",
    "first_in_force",
    "saved_pretrained_rows",
    "saved_radii",
]

logger = logging.getLogger(__name__)

_FIXED = ("ftp_exclude", "ftp_exclude_new", "ftp_anchors", "ftp_adapters")


def asked_of_groups(options: FTPArguments) -> dict[str, Any]:
    """What a param group gets of the options that may change within a run."""
    return {
        "kappa": options.ftp_kappa,
        "radius_lr": options.ftp_radius_lr,
        "radius_share": options.ftp_radius_share,
        "radius_betas": (options.ftp_radius_beta1, options.ftp_radius_beta2),
    }


@dataclass
class OptionsInForce:
    """What a run asked of the optimizer that projects, and what was in force before."""

    groups: list[dict[str, Any]]
    """What may change (κ, the radii's learning rate or share and betas), of each param group."""
    fixed: dict[str, Any]
    """What may not, because radii and anchors would be those of another run: exclusions, anchors, adapters."""
    earlier: list[EarlierOptions] = field(default_factory=list)
    pretrained_rows: dict[str, int] = field(default_factory=dict)
    """As the optimizer has them: a model that is loaded from the checkpoint does not say what it was resized from."""
    radii: dict[str, list[float]] = field(default_factory=dict)
    """In a checkpoint: each [`Radius`] of its weights, for the card of a run that is resumed after it and still keeps them."""

    @classmethod
    def of(cls, optimizer: ProjectedOptimizer, options: FTPArguments, exclude: Sequence[str] = ()) -> "OptionsInForce":
        """
        The options of an optimizer that was just built and has loaded no state yet. `exclude` is the exclusions of an optimizer
        that the user built.
        """
        fixed = {option: getattr(options, option) for option in _FIXED} | ({"exclude": [*exclude]} if exclude else {})
        return cls([adjustable_options(group) for group in optimizer.param_groups], fixed)

    def take_up_added(self, optimizer: ProjectedOptimizer) -> None:
        """Record what is in force in groups that were added to the optimizer since."""
        added = optimizer.param_groups[len(self.groups) :]
        self.groups = [*self.groups, *map(adjustable_options, added)]

    def change(self, optimizer: ProjectedOptimizer, before: FTPArguments, now: FTPArguments) -> None:
        """
        Let an optimizer go on with other options: its groups take those that may change.

        Raises:
            ValueError: names an option that may not change, with both values.
        """
        names = _names(optimizer)
        for option in _FIXED:
            _check_same(option, getattr(before, option), getattr(now, option), names)
        self.take_up_added(optimizer)
        old, new = asked_of_groups(before), asked_of_groups(now)
        # A group that had a value of its own keeps it.
        groups = [{o: new[o] if group[o] == old[o] else group[o] for o in ADJUSTABLE} for group in self.groups]
        _adopt(optimizer, self.groups, groups)
        self.groups, self.earlier = groups, []

    def resume(self, optimizer: ProjectedOptimizer, checkpoint: Path, step: int, excluded: set[str]) -> None:
        """
        Put the run's options, and those of the run before it, into the groups of an optimizer that was loaded from a
        checkpoint. `excluded` has the names that were excluded before it was loaded.

        Raises:
            ValueError: names an option that may not change, with both values.
        """
        saved = _read(checkpoint)
        if saved is None:
            self._check_exclusions(optimizer, excluded)
            saved = OptionsInForce([], {})
        saved.take_up_added(optimizer)  # all groups, or those that runs once added without saying so
        names = _names(optimizer)
        for option in saved.fixed.keys() - {"ftp_anchors"}:
            _check_same(option, saved.fixed[option], self.fixed.get(option), names)
        self._check_anchors(optimizer, saved.fixed.get("ftp_anchors"))
        until = first_in_force(optimizer)
        self.earlier = saved.earlier
        if _adopt(optimizer, saved.groups, self.groups):
            self.earlier = [*saved.earlier, EarlierOptions(step, **until)]

    def save(self, optimizer: ProjectedOptimizer, checkpoint: Path, radii: Mapping[str, Radius]) -> None:
        """Write it into the checkpoint, as it may be published, with the radii of its weights."""
        self.take_up_added(optimizer)
        listed = {name: [*radius] for name, radius in radii.items()}
        saved = OptionsInForce(self.groups, public_value(self.fixed), self.earlier, optimizer.pretrained_rows, listed)
        content = plain(saved)
        (checkpoint / OPTIONS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _check_exclusions(self, optimizer: ProjectedOptimizer, excluded: set[str]) -> None:
        """Of a checkpoint that does not say what was asked for: whether what it excludes can be what is asked for now."""
        held, asked = excluded_names(optimizer), _matching(_names(optimizer), self.fixed["ftp_exclude"])
        if asked - held or (not self.fixed["ftp_exclude_new"] and held - excluded):
            now = asked if self.fixed["ftp_exclude_new"] else excluded
            raise _changed("what ftp_exclude and ftp_exclude_new leave unprojected", sorted(held), sorted(now))

    def _check_anchors(self, optimizer: ProjectedOptimizer, before: str | None) -> None:
        before, now = named_anchors(before), named_anchors(self.fixed["ftp_anchors"])
        if now is None and before is not None:
            raise _changed("ftp_anchors", before, now)
        # By value, because the folder may have been moved.
        if now is not None and (other := optimizer.otherwise_anchored()):
            raise _changed(f"ftp_anchors ({', '.join(other[:3])}{', …' if other[3:] else ''})", before, now)


def saved_pretrained_rows(checkpoint: Path) -> dict[str, int]:
    """How many of the first rows of parameters had a pre-trained value in the run that saved a checkpoint."""
    saved = _read(checkpoint)
    return {} if saved is None else saved.pretrained_rows


def saved_radii(checkpoint: Path) -> dict[str, Radius]:
    """The radii of the weights in a checkpoint; none of one with the model alone."""
    saved = _read(checkpoint)
    return {} if saved is None else {name: Radius(*values) for name, values in saved.radii.items()}


def first_in_force(optimizer: ProjectedOptimizer) -> dict[str, Any]:
    """The options that may change, as plain data, of the first group that is projected: the one that cards show."""
    group = next(group for group in optimizer.param_groups if group["project"])
    return adjustable_options(group) | {"radius_betas": [*group["radius_betas"]]}


def excluded_names(optimizer: ProjectedOptimizer) -> set[str]:
    """The names of the parameters that the groups of an optimizer exclude."""
    return {
        name for group in optimizer.param_groups for name in _matching(group.get("param_names", ()), group["exclude"])
    }


def _read(checkpoint: Path) -> OptionsInForce | None:
    file = checkpoint / OPTIONS
    if not file.is_file():
        return None
    saved = build(OptionsInForce, json.loads(file.read_text(encoding="utf-8")))
    for group in saved.groups:
        group["radius_betas"] = tuple(group["radius_betas"])
        # Older checkpoints lack this key.
        group.setdefault("radius_share", None)
    return saved


def _adopt(
    optimizer: ProjectedOptimizer, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Take what is asked for now and was not before; the others may have been changed while the run trained."""
    changes = []
    for group, old, new in zip(optimizer.param_groups, before, now, strict=True):
        for option in ADJUSTABLE:
            if old[option] != new[option]:
                changes.append(f"{option} {old[option]} → {new[option]}")
                if new[option] is None:
                    group.pop(option, None)
                else:
                    group[option] = new[option]
                if option == "radius_share":
                    # A share replaces any rate; without one, the rate that is asked for counts again.
                    group["radius_lr"] = new["radius_lr"]
    if changes:
        logger.warning("The run goes on with other options of the projection: %s", ", ".join(dict.fromkeys(changes)))
    return changes


def _names(optimizer: ProjectedOptimizer) -> list[str]:
    return [name for group in optimizer.param_groups for name in group.get("param_names", ())]


def _matching(names: Sequence[str], patterns: Sequence[str] | None) -> set[str]:
    return {name for name in names if matches(name, tuple(patterns or ()))}


def _check_same(option: str, before: Any, now: Any, names: Sequence[str]) -> None:
    # Patterns that match the same names are the same.
    both = [_comparable(option, value, names) for value in (before, now)]
    if both[0] != both[1]:
        raise _changed(option, before, now)


def _comparable(option: str, value: Any, names: Sequence[str]) -> Any:
    if option.endswith("exclude"):
        return _matching(names, value)
    return named_anchors(value) if option == "ftp_anchors" else value


def _changed(option: str, before: Any, now: Any) -> ValueError:
    return ValueError(
        f"{option} was {before!r}, and is {now!r} now, but what is projected, and around which anchors, stays the same in "
        "a run: set it back, or start a new run (a new trainer, without resume_from_checkpoint)"
    )
