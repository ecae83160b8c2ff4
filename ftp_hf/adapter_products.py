"""
The layers of PEFT and the products of factors that they add to their weights (PEFT 0.17 to 0.21).

PEFT itself is looked at only if it was imported already: without it there are no adapters.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from .low_rank_tensor import LowRankProduct

__all__ = ["Unprojectable", "base_name", "has_adapters", "has_products", "layer_products", "weight_name"]

_WRAPPER = re.compile(
    r"^base_model\.(model\.)?|\.(base_layer|original_module|token_adapter|modules_to_save\.[^.]+)(?=\.|$)"
)

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_TAKEN_OUT = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""The initialisations that take the product that they start with out of the base weight."""


def base_name(name: str) -> str:
    """
    What a parameter of a model with adapters is called in the model without them.

    Args:
        name (`str`): for example `"base_model.model.bert.pooler.dense.base_layer.weight"`.

    Returns:
        `str`: for example `"bert.pooler.dense.weight"`.
    """
    return _WRAPPER.sub("", name)


def has_adapters(model: nn.Module) -> bool:
    """
    Whether a model has adapters of PEFT.

    Args:
        model (`nn.Module`): a `PeftModel`, a model of transformers after `add_adapter`, or any other.
    """
    if "peft" not in sys.modules:
        return False
    from peft import PeftModel  # noqa: PLC0415 - optional, and imported already
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


class Unprojectable(Exception):  # noqa: N818 - it is no error, but the answer to a question
    """Says why what an adapter adds to a weight cannot be projected by scaling rows."""


def has_products(layer: nn.Module) -> bool:
    """Whether a module is a layer with LoRA or VeRA."""
    return "lora_A" in layer._modules or "vera_lambda_b" in layer._modules


def weight_name(layer: Any) -> str:
    """What a layer with adapters calls the weight that they are added to."""
    in_proj = "in_proj_weight"
    return getattr(layer, "parameter_name", in_proj if hasattr(layer.get_base_layer(), in_proj) else "weight")


def layer_products(layer: Any, name_of: Mapping[Tensor, str], configs: Mapping[str, Any]) -> Iterator[LowRankProduct]:
    """
    What the trained adapters that are active in a layer add to its weight.

    Args:
        layer (`nn.Module`): of PEFT, with [`has_products`].
        name_of (mapping from `Tensor` to `str`): the names of the trained parameters.
        configs (mapping from `str` to `PeftConfig`): those of the adapters.

    Raises:
        Unprojectable: the update is no product, or the factor whose rows are its rows is not trained.
        ValueError: the product that the adapter started with was taken out of the base weight.
    """
    product_of = _lora_product if "lora_A" in layer._modules else _vera_product
    for adapter in layer.active_adapters:
        yield from product_of(layer, adapter, name_of, configs.get(adapter))


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
    init = str(getattr(config, "init_lora_weights", True)).lower()
    if init.startswith(_TAKEN_OUT):
        raise ValueError(
            f"init_lora_weights={init!r} takes the product B₀A₀ that {name_of[rows]} starts with out of the base weight, so "
            "that the distance from the pre-trained model is s(BA − B₀A₀), whose rows no scaling of B projects. Use an "
            "initialisation whose product is zero (True, 'gaussian', 'eva'; docs/adapters.md says what comes close), or set "
            "ftp_adapters to 'factors' or 'none'"
        )
    blocks = getattr(layer, "num_experts", 1)
    yield _product(rows, columns, name_of, scaling=layer.scaling[adapter], transposed=transposed, blocks=blocks)


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
