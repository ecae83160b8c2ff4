"""Adapters of PEFT on the layers that LoRA would adapt: LoRA itself, OSF and KappaTune."""

from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["attach_kappatune", "attach_lora", "attach_osf", "targeted_layers"]


def attach_lora(model: nn.Module, options: Mapping[str, Any]) -> Any:
    """
    LoRA (Hu et al., ICLR 2022, arXiv 2106.09685).

    Args:
        model (`nn.Module`): to be adapted, in place.
        options (mapping): arguments of `peft.LoraConfig`.

    Returns:
        `PeftModel`
    """
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - only methods with adapters need it

    return get_peft_model(model, LoraConfig(**options))


def attach_osf(model: nn.Module, options: Mapping[str, Any], *, effective_rank: float = 0.5) -> Any:
    """
    OSF, Orthogonal Subspace Fine-tuning (Nayak et al., 2025, arXiv 2504.07097): of the singular value decomposition of each
    weight the largest components are frozen and the others are trained, with gradients from which the frozen directions are
    taken out: `dU ← dU − U_high U_highᵀ dU`, and in the same way `dV`.

    The steps of an optimizer that scales entries one by one, such as Adam's, are not orthogonal to those directions to the
    last digit, as PEFT projects gradients alone. Weight decay would pull a part of the pre-trained weights to zero: train
    without it. An adapter has about as many trained parameters as the share of the layers' weights that is not frozen.

    Args:
        model (`nn.Module`): to be adapted, in place.
        options (mapping): arguments of `peft.LoraConfig`, of which OSF takes the layers, and the modules that are trained
            themselves.
        effective_rank (`float`, *optional*, defaults to 0.5): what is frozen: a share of each weight's rank up to 1, above
            it a number of components. PEFT freezes half; a rank for every layer, as the paper chooses it, is `rank_pattern`
            of `peft.OSFConfig`.

    Returns:
        `PeftModel`

    Raises:
        ValueError: nothing would be frozen.
    """
    from peft import OSFConfig, get_peft_model  # noqa: PLC0415

    if effective_rank <= 0:
        raise ValueError(
            f"effective_rank must be positive, got {effective_rank!r}: the share of the rank that is frozen"
        )
    layers, modules = targeted_layers(model, options), options.get("modules_to_save")
    rank = float(effective_rank) if effective_rank <= 1 else int(effective_rank)
    return get_peft_model(model, OSFConfig(effective_rank=rank, target_modules=layers, modules_to_save=modules))


def attach_kappatune(model: nn.Module, options: Mapping[str, Any], *, top_p: float = 0.2) -> Any:
    """
    KappaTune (Ludwig, 2025, arXiv 2506.16289) with LoRA: only the layers whose weights have the smallest condition numbers
    `κ = σ_max / σ_min` are adapted, as the least specialised ones.

    The paper trains the chosen tensors themselves; PEFT, whose `KappaTuneSelector` computes κ, gives them LoRA. It takes a
    singular value decomposition of each weight. Weights with more than 16,384 rows or columns have none, and stay as they are.

    Args:
        model (`nn.Module`): to be adapted, in place.
        options (mapping): arguments of `peft.LoraConfig`, which name the layers that are chosen from.
        top_p (`float`, *optional*, defaults to 0.2, as in PEFT): the share of these layers that is adapted, one at least.

    Returns:
        `PeftModel`

    Raises:
        ValueError: the share is outside (0, 1], or none of the layers is a linear one.
    """
    from peft.helpers import KappaTuneSelector  # noqa: PLC0415

    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p!r}: the share of the layers that is adapted")
    allowed = set(targeted_layers(model, options))
    ranked = [name for name in KappaTuneSelector(model, show_progress=False).get_best_targets() if name in allowed]
    if not ranked:
        raise ValueError("KappaTune chooses among linear layers, and target_modules names none of them")
    return attach_lora(model, {**options, "target_modules": ranked[: max(1, int(top_p * len(ranked)))]})


def targeted_layers(model: nn.Module, options: Mapping[str, Any]) -> list[str]:
    """
    The names of the layers that LoRA would adapt with these arguments of `peft.LoraConfig`. The model is frozen, but otherwise
    left as it is.
    """
    adapted = attach_lora(model, options)
    names = list(adapted.targeted_module_names)
    adapted.unload()
    # PEFT would warn that the model has an adapter already.
    if hasattr(model, "peft_config"):
        del model.peft_config
    return names
