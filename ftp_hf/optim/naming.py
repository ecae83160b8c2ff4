"""Names for the parameters of an optimizer that was built without them, and options that go by names."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from ftp_hf.common.names import matches

from .checks import check_options

__all__ = ["add_patterns", "by_name", "name_parameters", "name_unnamed_groups", "names_in", "rows_by_name"]

Value = TypeVar("Value")


def names_in(group: Mapping[str, Any], number: int) -> Sequence[str]:
    """The names of a param group's parameters; where it has none their positions: `"0.3"` is parameter 3 of group 0."""
    return group.get("param_names") or [f"{number}.{index}" for index in range(len(group["params"]))]


def name_parameters(groups: Sequence[dict[str, Any]], named_parameters: Iterable[tuple[str, Tensor]]) -> None:
    """
    Name the parameters of all groups, as `model.named_parameters()` does.

    Raises:
        ValueError: a parameter has no name.
    """
    name_of = {parameter: name for name, parameter in named_parameters}
    for number, group in enumerate(groups):
        unnamed = [index for index, parameter in enumerate(group["params"]) if parameter not in name_of]
        if unnamed:
            raise ValueError(
                f"named_parameters has no name for parameters {unnamed} of group {number}: pass the "
                "named_parameters() of the model that the optimizer was built for"
            )
        group["param_names"] = [name_of[parameter] for parameter in group["params"]]


def name_unnamed_groups(groups: Sequence[dict[str, Any]], named: Mapping[str, Tensor]) -> None:
    """
    Name the parameters of the groups that have no names by those of the model; parameters of another module go by their
    position.

    Raises:
        ValueError: not one of the parameters is the model's.
    """
    name_of = {parameter: name for name, parameter in named.items()}
    parameters = [parameter for group in groups for parameter in group["params"]]
    if parameters and not any(parameter in name_of for parameter in parameters):
        raise ValueError(
            "the optimizer has none of the model's parameters, so the model would not be trained: build it with the "
            "named_parameters() of the model that the Trainer is given"
        )
    for number, group in enumerate(groups):
        if "param_names" not in group:
            named_here = zip(group["params"], names_in(group, number), strict=True)
            group["param_names"] = [name_of.get(parameter, position) for parameter, position in named_here]


def add_patterns(
    group: dict[str, Any], option: str, patterns: Iterable[str], parameters: Collection[Tensor] = ()
) -> None:
    """
    Add to an option of a named group (`"exclude"` or `"transposed"`) patterns, and the names in the group of `parameters`, that
    it does not cover yet.

    Raises:
        TypeError: `patterns` is a string.
    """
    group[option] = patterns if isinstance(patterns, str) else tuple(dict.fromkeys((*group[option], *patterns)))
    check_options(group)
    names = zip(group["param_names"], group["params"], strict=True)
    more = [name for name, parameter in names if parameter in parameters and not matches(name, group[option])]
    group[option] = (*group[option], *more)


def by_name(
    groups: Sequence[dict[str, Any]], value_of: Mapping[Tensor, Value], patterns: tuple[str, ...]
) -> dict[str, Value]:
    """The values of parameters, by the names that they have in their groups, without names that match `patterns`."""
    return {
        name: value_of[parameter]
        for group in groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        if parameter in value_of and not matches(name, patterns)
    }


def rows_by_name(
    groups: Sequence[dict[str, Any]], dims_of: Mapping[Tensor, Sequence[int]], patterns: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """
    The dimensions that count the rows of parameters, by the names that they have in their groups. Names that match `patterns`
    or the groups' `transposed` are left out: their rows are known.
    """
    found = [by_name([group], dims_of, (*patterns, *group["transposed"])) for group in groups]
    return {name: tuple(dims) for of_group in found for name, dims in of_group.items()}
