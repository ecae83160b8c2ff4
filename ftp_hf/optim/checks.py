"""Checks of optimizers and their param groups: before anything is trained, an error that names the option, its value and the remedy."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ftp_hf.common.names import canonical_name, matches
from ftp_hf.common.problems import number_in_yaml
from ftp_hf.projection.equations import RowDim, row_dims
from ftp_hf.projection.low_rank_tensor import LowRankUpdate
from ftp_hf.projection.sharding import check_rows_are_whole, local

from .options import DEFAULTS, pretrained_rows_of, row_dim_of

__all__ = [
    "check_fused",
    "check_low_rank",
    "check_names",
    "check_options",
    "check_parameter",
    "check_parameters",
    "check_patterns",
    "check_patterns_match",
    "check_pretrained_rows",
    "check_rows",
]


_PATTERNS = ("exclude", "transposed")
"""The options of a group that name parameters."""


def check_options(group: dict[str, Any]) -> None:
    """Raise if an option of a param group is of the wrong type or out of range; make its patterns tuples."""
    check_patterns(group)
    _check_number("kappa", group["kappa"])
    if not 0.0 <= group["kappa"] <= 1.0:
        raise ValueError(
            f"kappa must lie in [0, 1], got {group['kappa']!r}: 1 regularises most, with 0 the radius never shrinks"
        )
    _check_number("radius_lr", group["radius_lr"])
    if not 0.0 <= group["radius_lr"] < float("inf"):
        raise ValueError(f"radius_lr must be finite and not negative, got {group['radius_lr']!r}; the default is 1e-2")
    _check_share(group)
    _check_betas(group["radius_betas"])
    if group["anchor_device"] not in (None, "cpu"):
        raise ValueError(
            f"anchor_device must be None (beside the weights) or 'cpu' (in host memory), got {group['anchor_device']!r}"
        )
    _check_rounding(group)
    if group["project"] and group.get("differentiable", False):
        raise ValueError("differentiable=True is not supported: the projection is not differentiated through")


def check_patterns(group: dict[str, Any]) -> None:
    """Raise if an option of a param group that names parameters is no sequence of patterns; make it a tuple."""
    for option in _PATTERNS:
        patterns = group[option]
        is_one = isinstance(patterns, str)
        if is_one or not isinstance(patterns, Collection) or not all(isinstance(pattern, str) for pattern in patterns):
            remedy = f"; for a single one write {option}=({patterns!r},)" if is_one else ""
            raise TypeError(
                f"{option} must be a sequence of parameter names or glob patterns, got {patterns!r}{remedy}"
            )
        group[option] = tuple(patterns)


def _check_number(option: str, value: Any) -> None:
    if not isinstance(value, Real | Tensor):
        raise TypeError(f"{option} must be a number, got {value!r}{number_in_yaml(value)}")


def _check_betas(betas: Any) -> None:
    pair = tuple(betas) if isinstance(betas, Collection) and not isinstance(betas, str) else ()
    for index, beta in enumerate(pair):
        _check_number(f"radius_betas[{index}]", beta)
    if len(pair) != 2 or not all(0.0 <= beta < 1.0 for beta in pair):
        raise ValueError(f"radius_betas must be two numbers in [0, 1), got {betas!r}; the default is (0.9, 0.999)")


def _check_rounding(group: dict[str, Any]) -> None:
    rounding = group.get("stochastic_rounding", False)
    if not isinstance(rounding, bool):
        raise TypeError(f"stochastic_rounding must be True or False, got {rounding!r}")
    if group["project"] and rounding and group.get("capturable", False):
        raise ValueError(
            "stochastic_rounding=True does not go with capturable=True: a captured step would round with the same random "
            "numbers each time that it is replayed. Leave one of the two out"
        )


def _check_share(group: dict[str, Any]) -> None:
    if (share := group.get("radius_share")) is None:
        return
    _check_number("radius_share", share)
    if not 0.0 <= share < float("inf"):
        raise ValueError(
            f"radius_share must be finite and not negative, got {share!r}: the share of what the optimizer could move a row "
            "by in a step, such as 0.03; None is for radius_lr"
        )
    if group["radius_lr"] != DEFAULTS["radius_lr"]:
        raise ValueError(
            f"radius_share={share!r} and radius_lr={group['radius_lr']!r} both say how fast radii learn: set one of them. "
            "A param group that is to have the other one than its optimizer sets both, radius_share=None or "
            f"radius_lr={DEFAULTS['radius_lr']!r} too"
        )
    if group["project"] and group.get("lr") is None:
        raise ValueError(
            f"radius_share={share!r} is a share of the learning rate, and the param group has none (lr={group.get('lr')!r}): "
            "give the optimizer one, or set radius_lr"
        )


def check_rows(rows: Any) -> dict[str, tuple[int, ...]]:
    """The option `rows`, with its dimensions as tuples; raise if it is of the wrong type or out of range."""
    if not isinstance(rows, Mapping):
        raise TypeError(
            f"rows must map parameter names or glob patterns to the dimensions that count rows, got {rows!r}; "
            "write rows={'*.experts.gate_up_proj': (0, 1)}"
        )
    checked = {pattern: (dims,) if isinstance(dims, int) else tuple(dims) for pattern, dims in rows.items()}
    for pattern, dims in checked.items():
        if not dims or len({*dims}) < len(dims) or any(not isinstance(dim, int) or dim < 0 for dim in dims):
            raise ValueError(
                f"rows: {pattern!r} must name distinct dimensions, 0 or greater, got {dims!r}: (0,) is one row for each "
                "index of dimension 0, (0, 1) one for each index of the first two"
            )
    return checked


def check_pretrained_rows(pretrained_rows: Any) -> dict[str, int]:
    """The option `pretrained_rows`; raise if it is of the wrong type or out of range."""
    if not isinstance(pretrained_rows, Mapping):
        raise TypeError(
            "pretrained_rows must map parameter names or glob patterns to how many of their first rows have a pre-trained "
            f"value, got {pretrained_rows!r}; write pretrained_rows={{'model.embed_tokens.weight': 32000}}"
        )
    for pattern, count in pretrained_rows.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(
                f"pretrained_rows: of {pattern!r} one row or more must have a pre-trained value, got {count!r}; list in "
                "exclude= what has none"
            )
    return dict(pretrained_rows)


def check_parameters(
    group: dict[str, Any], rows: Mapping[str, tuple[int, ...]], pretrained_rows: Mapping[str, int]
) -> None:
    """Raise if patterns lack names to match, or a parameter of the group cannot be projected."""
    names = group.get("param_names")
    by_name = {**{option: group[option] for option in _PATTERNS}, "rows": rows, "pretrained_rows": pretrained_rows}
    given = {option: value for option, value in by_name.items() if value}
    if names is None and given:
        option, value = next(iter(given.items()))
        raise ValueError(
            f"{option}={value!r} needs parameter names: pass model.named_parameters() (or groups of such pairs) "
            "as the first argument; the Trainer's optimizer_cls_and_kwargs= gives none, so use optimizers= or FTPTrainer there"
        )
    check_fused(group)
    for name, parameter in _named(group):
        if group["project"] and parameter.requires_grad and not matches(name, group["exclude"]):
            row_dim = row_dim_of(name, group, rows)
            check_parameter(name, parameter, row_dim)
            _check_first_rows(name, parameter, row_dim, pretrained_rows_of(name, pretrained_rows))


def check_fused(group: dict[str, Any]) -> None:
    """Raise if a fused step would not train each element of each parameter of a param group once."""
    for name, parameter in _named(group) if group.get("fused") else ():
        if not _is_dense(part := local(parameter)):
            raise ValueError(
                f"{name}, of shape {tuple(part.shape)} and strides {part.stride()}, has gaps or shared elements in memory, and "
                "torch's fused step on the CPU would train a part of it alone: make the parameter of tensor.contiguous(), or "
                "set fused=False (optim='adamw_torch' of a Trainer), also in the param groups of a state dict to load"
            )


def _is_dense(part: Tensor) -> bool:
    # torch's fused steps on the CPU take the elements one after the other in memory, gaps included (torch 2.8 to 2.13).
    if not part.is_cpu or is_lazy(part):  # which has no elements yet
        return True
    return torch.empty_like(part, device="meta").stride() == part.stride()


def _named(group: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    names = group.get("param_names")
    for index, parameter in enumerate(group["params"]):
        yield (names[index] if names else f"parameter {index} of the group"), parameter


def check_parameter(name: str, parameter: Tensor, row_dim: RowDim) -> None:
    """Raise if this parameter cannot be projected, does not have its row dimensions, or has its rows cut through."""
    if parameter.dtype == torch.float16:
        raise ValueError(
            f"{name} is {parameter.dtype}, which is not projected: small gradients are zero in float16. Load the model "
            "with dtype=torch.bfloat16 or torch.float32 (and train in mixed precision with fp16=True or bf16=True), or "
            "put the parameter in a param group with project=False"
        )
    if parameter.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise ValueError(
            f"{name} is {parameter.dtype}: only float32, float64 and bfloat16 are projected. Name it in exclude "
            "(ftp_exclude of FTPTrainer), or put it in a param group with project=False"
        )
    dims = row_dims(row_dim, parameter.ndim)
    if dims and max(dims) >= parameter.ndim:
        raise ValueError(
            f"rows: {name} has {parameter.ndim} dimensions, but rows= names {dims}: the last dimension is "
            f"{parameter.ndim - 1}"
        )
    check_rows_are_whole(name, parameter, row_dim)


def _check_first_rows(name: str, parameter: Tensor, row_dim: RowDim, count: int | None) -> None:
    if count is None:
        return
    dims = row_dims(row_dim, parameter.ndim)
    if not parameter.ndim or (dims and 0 not in dims):
        raise ValueError(
            f"pretrained_rows: the rows of {name}, of shape {tuple(parameter.shape)}, are not along dimension 0, so that its "
            "first ones cannot be told: leave it out, or exclude the whole parameter"
        )
    if count > parameter.shape[0]:
        raise ValueError(
            f"pretrained_rows: {name} has {parameter.shape[0]} rows, of which {count} cannot have a pre-trained value"
        )


def check_patterns_match(groups: Sequence[dict[str, Any]], **by_name: Mapping[str, Any]) -> None:
    """Raise if a pattern matches no parameter of the groups that carry it: it is probably misspelt."""
    for option in _PATTERNS:
        for pattern in dict.fromkeys(pattern for group in groups for pattern in group[option]):
            _check_matches(option, pattern, [group for group in groups if pattern in group[option]])
    for option, patterns in by_name.items():
        for pattern in patterns:
            _check_matches(option, pattern, groups)


def _check_matches(option: str, pattern: str, groups: Sequence[dict[str, Any]]) -> None:
    # First by equality: thousands of parameters may be excluded by name, each of which would be compared with all.
    if any(pattern in group["param_names"] for group in groups):
        return
    names = [name for group in groups for name in group["param_names"]]
    if not any(matches(name, (pattern,)) for name in names):
        example = names[0] if names else "classifier.weight"
        later = f", and what a later param group has in its own {option}" if option in _PATTERNS else ""
        raise ValueError(
            f"{option}: {pattern!r} matches no parameter. Name a parameter ({example!r}) or use a glob "
            f"pattern ({example.rpartition('.')[0] + '.*'!r}){later}"
        )


def check_names(groups: Sequence[dict[str, Any]], updates: Sequence[LowRankUpdate]) -> None:
    """
    Raise if two parameters that may be projected, or are factors, have one name: their options and radii go by it. In another
    group one may be excluded, as a head is that takes the place of an earlier one.
    """
    factors = {factor for update in updates for factor in update.factors}
    owner_of: dict[str, tuple[Tensor, dict[str, Any]]] = {}
    for group in groups:
        for name, parameter in zip(group.get("param_names", ()), group["params"], strict=False):
            called = canonical_name(name)
            if not (group["project"] or called in factors):
                continue
            other, of_other = owner_of.setdefault(called, (parameter, group))
            is_told_apart = group is not of_other and any(matches(name, each["exclude"]) for each in (group, of_other))
            if other is not parameter and (called in factors or not is_told_apart):
                raise ValueError(
                    f"two parameters are called {called!r}, so that radii(), anchors= and exclude= cannot tell them "
                    "apart: give those of each module a prefix, [*enc.named_parameters('enc'), *dec.named_parameters('dec')], "
                    "also in the param_names of a state dict to load. If one took the place of the other in the model, take the "
                    "old one out of its param group, or name it in exclude or set project=False in the group of the new one"
                )


def check_low_rank(updates: Sequence[LowRankUpdate], groups: Sequence[dict[str, Any]]) -> None:
    """Raise if a factor is not among the parameters, or the rows of two updates would be scaled together."""
    names = {canonical_name(name) for group in groups for name in group.get("param_names", ())}
    owner_of: dict[str, str] = {}
    for update in updates:
        missing = sorted(update.factors - names)
        if missing:
            raise ValueError(
                f"low_rank: the factors {', '.join(missing)} of {update.name} are not among the optimizer's named "
                "parameters. Pass the (name, parameter) pairs of model.named_parameters() that require gradients, as the "
                "first argument"
            )
        owner_of |= {product.rows: update.name for product in update.products}
    for update in updates:
        for factor in sorted(update.factors & owner_of.keys()):
            if owner_of[factor] != update.name:
                raise ValueError(
                    f"low_rank: {factor} is a factor of both {owner_of[factor]} and {update.name}, so that neither can be "
                    "projected without the other. Do not tie their adapters"
                )
