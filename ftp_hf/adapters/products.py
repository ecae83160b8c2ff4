"""
The layers of PEFT and the products of factors that they add to their weights (PEFT 0.21).

PEFT itself is looked at only if it was imported already: without it there are no adapters.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ftp_hf.projection.low_rank_tensor import LowRankProduct

__all__ = [
    "Unprojectable",
    "configs_by_module",
    "has_products",
    "layer_products",
    "product_taken_out",
    "restore_base_weights",
    "weight_name",
]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_TAKEN_OUT = ("pissa", "olora", "corda", "lora_ga")
"""The initialisations that take the product that they start with out of the base weight."""


class Unprojectable(Exception):  # noqa: N818 - it is no error, but the answer to a question
    """Says why what an adapter adds to a weight cannot be projected by scaling rows."""


def configs_by_module(model: nn.Module) -> dict[nn.Module, Mapping[str, Any]]:
    """
    The configs of the adapters around each module, by adapter. Parts of a model may have adapters of the same name: the
    innermost counts.
    """
    found: dict[nn.Module, Mapping[str, Any]] = {}
    for part in model.modules():
        configs = getattr(part, "peft_config", None)
        if isinstance(configs, dict):  # and not a single one, that a module of the user's own keeps
            found |= {module: {**found.get(module, {}), **configs} for module in part.modules()}
    return found


def has_products(layer: nn.Module) -> bool:
    """Whether a module is a layer with LoRA or VeRA."""
    # AdaLoRA keeps tensors under the names of LoRA's modules.
    return isinstance(layer._modules.get("lora_A"), nn.ModuleDict) or "vera_lambda_b" in layer._modules


def weight_name(layer: Any) -> str:
    """What a layer with adapters calls the weight that they are added to."""
    in_proj = "in_proj_weight"
    return getattr(layer, "parameter_name", in_proj if hasattr(layer.get_base_layer(), in_proj) else "weight")


def layer_products(layer: Any, name_of: Mapping[Tensor, str], configs: Mapping[str, Any]) -> Iterator[LowRankProduct]:
    """
    What the trained adapters that are active in a layer of PEFT with [`has_products`] add to its weight. `name_of` names the
    trained parameters.

    Raises:
        Unprojectable: the update is no product, or the factor whose rows are its rows is not trained.
        ValueError: the product that the adapter started with was taken out of the base weight.
    """
    if any(config.peft_type == "XLORA" for config in configs.values()):
        raise Unprojectable("xlora, which weighs its adapters anew for each token")
    product_of = _lora_product if "lora_A" in layer._modules else _vera_product
    for adapter in layer.active_adapters:
        yield from product_of(layer, adapter, name_of, configs.get(adapter))


def restore_base_weights(model: nn.Module) -> None:
    """
    Put the product that PiSSA, OLoRA, CorDA or LoRA-GA took out of each base weight back, and start with `B = 0` and their
    `A`: the base weights are the pre-trained ones again (to the rounding of their dtype), so that the adapter can be
    projected. It is saved as the plain LoRA that it is then. `docs/adapters.md` says why FTP leaves nothing else of such a
    start. Without such adapters, nothing happens.

    Args:
        model (`nn.Module`): as `get_peft_model` returned it, or any module that has such a model inside. Not with trained
            adapters, whose product would be put into the base weights.

    Raises:
        ValueError: a base weight is quantised, so that nothing can be put back.

    Example:
        ```python
        model = get_peft_model(model, LoraConfig(init_lora_weights="pissa"))
        restore_base_weights(model)
        ```
    """
    configs_of = configs_by_module(model)
    for path, layer in model.named_modules():
        for adapter, config in configs_of.get(layer, {}).items():
            if adapter not in layer._modules.get("lora_B", {}) or not _init(config).startswith(_TAKEN_OUT):
                continue
            weight = layer.get_base_layer().weight
            if not weight.is_floating_point():
                raise ValueError(
                    f"the base weight of {path} is quantised ({weight.dtype}), so the product that init_lora_weights="
                    f"{_init(config)!r} took out of it cannot be put back: use True, 'gaussian' or 'eva'"
                )
            with torch.no_grad():
                weight += layer.get_delta_weight(adapter)
                layer.lora_B[adapter].weight.zero_()
    for config in _each(configs_of):
        if _init(config).startswith(_TAKEN_OUT):
            config.init_lora_weights = True


def product_taken_out(model: nn.Module) -> str | None:
    """
    The initialisation by which an adapter took a product out of the base weights, so that without the adapter they are not the
    pre-trained ones; `None` if there is none.
    """
    inits = map(_init, _each(configs_by_module(model)))
    return next((init for init in inits if init.startswith((*_TAKEN_OUT, "loftq"))), None)


def _each(configs_of: Mapping[nn.Module, Mapping[str, Any]]) -> Iterator[Any]:
    return (config for configs in configs_of.values() for config in configs.values())


def _lora_product(layer: Any, adapter: str, name_of: Mapping[Tensor, str], config: Any) -> Iterator[LowRankProduct]:
    transposed = adapter in layer.lora_embedding_A
    if not transposed and adapter not in layer.lora_A:
        return
    # An embedding's lookup picks columns of A: tokens are the rows of the weight, so that A has the rows of the update.
    rows, columns = (
        (layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter])
        if transposed
        else (layer.lora_B[adapter], layer.lora_A[adapter])
    )
    if isinstance(rows, (nn.Linear, *_CONVOLUTIONS)):
        if getattr(rows, "groups", 1) > 1:
            raise Unprojectable("convolutions in groups, which have no merged weight")
        rows, columns = rows.weight, columns.weight
    elif not transposed:
        raise Unprojectable(type(layer).__name__)
    if rows not in name_of and columns not in name_of:
        return
    if isinstance(layer.get_base_layer(), NonDynamicallyQuantizableLinear):
        # https://github.com/huggingface/peft/pull/3774 (PEFT 0.21)
        raise Unprojectable("the output of MultiheadAttention, to which PEFT adds it twice")
    if adapter in layer.lora_variant:
        raise Unprojectable(type(layer.lora_variant[adapter]).__name__)
    if rows not in name_of:
        raise Unprojectable("LoRA with a frozen row factor")
    if (init := _init(config)).startswith((*_TAKEN_OUT, "loftq")):
        remedy = (
            "Call restore_base_weights(model) right after get_peft_model, which keeps A₀ and starts with B = 0"
            if init.startswith(_TAKEN_OUT)
            else "Use an initialisation whose product is zero (True, 'gaussian', 'eva')"
        )
        raise ValueError(
            f"init_lora_weights={init!r} takes the product B₀A₀ that {name_of[rows]} starts with out of the base weight, so "
            "that the distance from the pre-trained model is s(BA − B₀A₀), whose rows no scaling of B projects. "
            f"{remedy} (docs/adapters.md), or set ftp_adapters (adapters= of adapter_options) to 'factors' or 'none'"
        )
    blocks = getattr(layer, "num_experts", 1)
    yield _product(rows, columns, name_of, scaling=layer.scaling[adapter], transposed=transposed, blocks=blocks)


def _init(config: Any) -> str:
    return str(getattr(config, "init_lora_weights", True)).lower()


def _vera_product(layer: Any, adapter: str, name_of: Mapping[Tensor, str], _: Any) -> Iterator[LowRankProduct]:
    if adapter not in layer.vera_lambda_b:
        return
    rows, columns = layer.vera_lambda_b[adapter], layer.vera_lambda_d[adapter]
    if rows in name_of:
        bases = (layer.vera_B[adapter][: len(rows)], layer.vera_A[adapter][:, : layer.in_features])
        yield _product(rows, columns, name_of, bases=bases)
    elif columns in name_of:
        raise Unprojectable("VeRA with a frozen row factor")


def _product(rows: Tensor, columns: Tensor, name_of: Mapping[Tensor, str], **layout: Any) -> LowRankProduct:
    return LowRankProduct(name_of[rows], name_of.get(columns, columns.detach()), **layout)
