"""
What the adapters of a model of PEFT do to its weights. `docs/adapters.md` is the table of all methods.

PEFT is looked at only if it was imported already: without it there are no adapters.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ftp_hf.common.names import base_name, canonical_name
from ftp_hf.pretrained.anchors import CheckpointAnchors, check_one_name_each
from ftp_hf.pretrained.origin import has_adapters
from ftp_hf.projection.low_rank_tensor import LowRankUpdate
from ftp_hf.projection.sharding import local

from .products import Unprojectable, configs_by_module, has_products, layer_products, weight_name

__all__ = ["ADAPTER_MODES", "Adapters", "find_adapters", "trains_adapters_alone"]

logger = logging.getLogger(__name__)

ADAPTER_MODES = ("product", "factors", "none")

_TO_THE_BASE = {"base_model", "model", "base_layer", "original_module"}
"""Where the modules of PEFT keep what they wrap."""


class Adapters(NamedTuple):
    """The trained parameters of a model with adapters, sorted by what can be projected of them."""

    updates: tuple[LowRankUpdate, ...]
    """What is projected as a product."""
    plain: tuple[str, ...]
    """The adapters' parameters that are left to the plain optimizer."""
    base_values: Mapping[str, Tensor]
    """The pre-trained value of each trained copy of pre-trained weights: `modules_to_save`, single tokens, layer norms."""
    twin_of: Mapping[str, str]
    """The name of the parameter that such a copy was made of; "" for an adapter's parameter, which is none."""
    tokens: Mapping[str, Sequence[int]]
    """Which rows of that parameter the copy is of, where it is of single tokens."""

    @property
    def factors(self) -> set[str]:
        """The names of the parameters in `updates`."""
        return {name for update in self.updates for name in update.factors}

    def new(self, named: Mapping[str, Tensor], unknown: set[str]) -> list[str]:
        """
        The trained parameters without a pre-trained value, such as a new head in `modules_to_save`. `unknown` is what
        [`new_parameters`] returns, which knows nothing of adapters.
        """
        return [name for name in named if self.twin_of.get(name, name) in unknown]

    def pretrained_rows(self, named: Mapping[str, Tensor], resized: Mapping[str, int]) -> dict[str, int]:
        """
        How many of the first rows of parameters have a pre-trained value, where not all do.

        Args:
            named (mapping from `str` to `Tensor`): the trained parameters.
            resized (mapping from `str` to `int`): as [`~ftp_hf.pretrained.pretrained_rows`] returns them, which knows
                nothing of single tokens.

        Returns:
            `dict[str, int]`: 0 for tokens that are all new. Old tokens that come after a new one are not counted, which
            a line in the log says.
        """
        rows = {}
        for name in named:
            count = resized.get(self.twin_of.get(name, name))
            if count is not None:
                rows[name] = _leading(name, self.tokens[name], count) if name in self.tokens else count
        return {name: count for name, count in rows.items() if name not in self.tokens or count < len(named[name])}

    def anchors(self, named: Mapping[str, Tensor], checkpoint: CheckpointAnchors | None) -> Mapping[str, Tensor] | None:
        """
        The anchors of the trained parameters that are projected densely; `None` if their present values will do. `checkpoint`
        is the pre-trained model, where the one in memory is already fine-tuned.

        Raises:
            ValueError: as [`~ftp_hf.pretrained.anchors.check_one_name_each`].
        """
        if not self.twin_of or (checkpoint is None and not self.base_values):
            return checkpoint
        if checkpoint is not None:
            check_one_name_each(checkpoint, {base_name(name) for name in named})
        in_checkpoint: Mapping[str, Tensor] = checkpoint or {}
        return {
            name: in_checkpoint[base_name(name)]
            if base_name(name) in in_checkpoint
            else self.base_values.get(name, parameter)
            for name, parameter in named.items()
        }


def find_adapters(model: nn.Module, adapters: str = "product") -> Adapters:
    """
    Sort the trained parameters of a model with adapters. One line in the log names the methods that are not projected.

    Args:
        model (`nn.Module`): with adapters of PEFT, or without: then nothing is found.
        adapters (`str`, *optional*, defaults to `"product"`): `"product"` projects what the adapters add to each weight
            where it can be projected exactly, and leaves the others to the plain optimizer; `"factors"` projects every
            parameter of an adapter around its first value, whatever that does to the model; `"none"` projects none.

    Raises:
        ValueError: `adapters` is none of the three; an adapter started with a product that was taken out of the base
            weight (as PiSSA's is); a weight is trained together with its adapter; adapters share memory.
    """
    if adapters not in ADAPTER_MODES:
        modes = ", ".join(map(repr, ADAPTER_MODES))
        raise ValueError(f"adapters= (ftp_adapters of the FTPTrainer) must be one of {modes}, got {adapters!r}")
    if not has_adapters(model):
        return Adapters((), (), {}, {}, {})
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    copies = {copy.name: copy for copy in _copies(model) if copy.name in trained}
    own = _own(model, [name for name in trained if name not in copies])
    twin_of = dict.fromkeys(own, "") | {name: copy.twin for name, copy in copies.items()}
    base_values = {name: copy.value for name, copy in copies.items()}
    tokens = {name: copy.tokens for name, copy in copies.items() if copy.tokens is not None}
    if adapters != "product":
        return Adapters((), tuple(own) if adapters == "none" else (), base_values, twin_of, tokens)
    updates, refused = _updates(model, {parameter: canonical_name(name) for name, parameter in trained.items()})
    factors = {name for update in updates for name in update.factors}
    # What LoRA adds to a bias is zero at first.
    biases = {name: torch.zeros_like(trained[name]) for name in own if _bias_of(name) in factors}
    plain = {
        name: refused.get(canonical_name(name), method)
        for name, method in own.items()
        if canonical_name(name) not in factors and name not in biases
    }
    if plain:
        _log_plain(plain)
    return Adapters(tuple(updates), tuple(plain), base_values | biases, twin_of, tokens)


def trains_adapters_alone(model: nn.Module) -> bool:
    """Whether PEFT says of every trained parameter what it is: one that an adapter adds, no copy of weights, such as a head."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    beside = trained & {copy.name for copy in _copies(model)}
    return has_adapters(model) and not beside and _own(model, trained).keys() == trained


class _Copy(NamedTuple):
    """A trained copy of pre-trained weights."""

    name: str
    value: Tensor
    """What it was copied from, as it was."""
    twin: str
    """The name of that parameter."""
    tokens: Sequence[int] | None = None
    """Which of its rows, if it is of single tokens."""


def _copies(model: nn.Module) -> Iterator[_Copy]:
    for path, module in model.named_modules():
        children = module._modules
        for kind, original in (("modules_to_save", "original_module"), ("ln_tuning_layers", "base_layer")):
            if isinstance(copied := children.get(kind), nn.Module) and isinstance(
                base := children.get(original), nn.Module
            ):
                values = dict(base.named_parameters())
                for name, _ in copied.named_parameters():
                    twin = name.partition(".")[2]
                    yield _Copy(f"{path}.{kind}.{name}", values[twin].detach(), f"{path}.{original}.{twin}")
        if "trainable_tokens_delta" in children:
            for adapter, value in module.trainable_tokens_original.items():
                name, tokens = f"{path}.trainable_tokens_delta.{adapter}", module.token_indices[adapter]
                yield _Copy(name, value, f"{path}.base_layer.weight", tokens)


def _leading(name: str, tokens: Sequence[int], old: int) -> int:
    """How many tokens come before the first new one."""
    leading = next((place for place, token in enumerate(tokens) if token >= old), len(tokens))
    if later := [token for token in tokens[leading:] if token < old]:
        logger.warning(
            "The tokens %s of %s are not projected, because they come after new ones: in trainable_token_indices, name the "
            "old tokens first.",
            ", ".join(map(str, later)),
            name,
        )
    return leading


def _own(model: nn.Module, names: Collection[str]) -> dict[str, str]:
    """The method of PEFT of each of these parameters that belongs to one."""
    return {name: method for name in names if (method := _method(model, name))}


def _method(model: nn.Module, name: str) -> str:
    """The method of PEFT that a parameter belongs to, such as "ia3"; "" if it is one of the base model's."""
    module: nn.Module | None = model
    path = name.split(".")
    for part, adapter in zip(path, [*path[1:], ""], strict=True):
        package = type(module).__module__.split(".")
        if package[0] == "peft" and part not in _TO_THE_BASE:
            if package[1] == "tuners":
                return package[2]
            # Virtual tokens of all methods are in the `prompt_encoder` of a `PeftModel`.
            config = getattr(module, "peft_config", {}).get(adapter)
            return part if config is None else str(config.peft_type.value).lower()
        module = None if module is None else module._modules.get(part)
    return ""


def _bias_of(name: str) -> str:
    weight, _, leaf = canonical_name(name).rpartition(".")
    return f"{weight}.weight" if leaf == "bias" else ""


def _updates(model: nn.Module, name_of: dict[Tensor, str]) -> tuple[list[LowRankUpdate], dict[str, str]]:
    """The updates that can be projected, and by parameter name why others cannot be."""
    configs_of = configs_by_module(model)
    updates: list[LowRankUpdate] = []
    refused: dict[str, str] = {}
    for path, layer in model.named_modules():
        if not has_products(layer):
            continue
        name = base_name(f"{canonical_name(path)}.{weight_name(layer)}")
        try:
            products = tuple(layer_products(layer, name_of, configs_of.get(layer, {})))
        except Unprojectable as reason:
            own = (p for kind in layer.adapter_layer_names for p in layer._modules[kind].parameters())
            refused |= {name_of[parameter]: str(reason) for parameter in own if parameter in name_of}
            continue
        if products:
            _check_frozen(name, layer)
            updates.append(LowRankUpdate(name, products))
    _check_memory(updates, name_of)
    return updates, refused


def _check_frozen(name: str, layer: Any) -> None:
    weight = getattr(layer.get_base_layer(), weight_name(layer), None)
    if weight is not None and weight.requires_grad:
        raise ValueError(
            f"{name} is trained together with its adapter, so that what the adapter adds is not how far the weight is from "
            "its start: freeze the weight, or set ftp_adapters (adapters= of adapter_options) to 'factors' or 'none'"
        )


def _check_memory(updates: list[LowRankUpdate], name_of: dict[Tensor, str]) -> None:
    """Raise if two factors are one tensor under two names, as PEFT's `ensure_weight_tying` makes them."""
    factors = {name for update in updates for name in update.factors}
    owner_of: dict[int, str] = {}
    for parameter, name in name_of.items():
        part = local(parameter)
        if name in factors and not part.is_meta and part.numel():  # empty parts have no address
            owner = owner_of.setdefault(part.untyped_storage().data_ptr(), name)
            if owner != name:
                raise ValueError(
                    f"{owner} and {name} share memory, so that projecting one adapter would change the other: do not tie "
                    "them (ensure_weight_tying=False), or set ftp_adapters (adapters= of adapter_options) to 'factors' or 'none'"
                )


def _log_plain(method_of: dict[str, str]) -> None:
    counts = Counter(method_of.values())
    logger.warning(
        "Not projected, but left to the plain optimizer, for the reasons in docs/adapters.md: %s. "
        "ftp_adapters='factors' (adapters= of adapter_options) would project each of these parameters around its first value.",
        ", ".join(f"{method} (parameters: {count})" for method, count in counts.items()),
    )
