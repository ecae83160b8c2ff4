"""The parameters that a Trainer trains beside its model's."""

from typing import Any

from torch import nn

__all__ = ["parameters_outside"]


def parameters_outside(trainer: Any, model: nn.Module) -> dict[str, nn.Parameter]:
    """
    The parameters of modules that a Trainer holds beside its model, such as a loss of sentence-transformers with a classifier
    in it. No checkpoint holds them.

    Returns:
        `dict[str, nn.Parameter]`: by the name of the attribute and their name there, for example `"loss.classifier.weight"`.
    """
    known = set(model.parameters())
    return {
        f"{attribute}.{name}": parameter
        for attribute, value in vars(trainer).items()
        for name, parameter in _parameters(value).items()
        if parameter not in known
    }


def _parameters(value: Any) -> dict[str, nn.Parameter]:
    if isinstance(value, nn.Module):
        return dict(value.named_parameters())
    if isinstance(value, dict):
        modules = {key: module for key, module in value.items() if isinstance(module, nn.Module)}
        return {f"{key}.{name}": p for key, module in modules.items() for name, p in module.named_parameters()}
    return {}
