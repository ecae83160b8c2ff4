"""Heads that grow by new classes and know their old rows, which stay as they are; and heads that are initialised again."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .loading import is_loaded, mark_new

__all__ = ["forget_growth", "grow_classifier", "grown_rows", "renew_classifier"]

_MARK = "_rows_before_growing"


@torch.no_grad()
def grow_classifier(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """
    Give the head of a classifier rows for new classes, in place: an optimizer that holds its parameters goes on with them.
    [`pretrained_rows`] then tells old rows from new ones, so that [`FTPTrainer`] projects the old ones alone.

    Args:
        model (`PreTrainedModel`): with a linear head for each of its present classes.
        labels (sequence of `str`): the names of all classes, the present ones first and in their order.

    Raises:
        ValueError: the present classes do not come first; or no linear layer outside the base model has a row for each of them.

    Example:
        ```python
        model = AutoModelForSequenceClassification.from_pretrained("runs/stage1/checkpoint-300")
        grow_classifier(model, [*model.config.id2label.values(), "weather", "alarm"])
        ```
    """
    config: Any = model.config
    before = [config.id2label[index] for index in range(config.num_labels)]
    if list(labels[: len(before)]) != before:
        raise ValueError(f"labels must begin with the present ones, {before}, in their order, got {list(labels)}")
    heads = [module for module in _outside_base(model, nn.Linear).values() if module.out_features == len(before)]
    if not heads:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with {len(before)} rows outside its base model that could grow"
        )
    for head in heads:
        for name, parameter in head.named_parameters(recurse=False):
            _grow(parameter, len(labels), getattr(config, "initializer_range", 0.02) if name == "weight" else 0.0)
        head.out_features = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if hasattr(model, "num_labels"):
        setattr(model, "num_labels", len(labels))  # noqa: B010 - it is no parameter, whatever torch's types say


@torch.no_grad()
def renew_classifier(model: PreTrainedModel) -> bool:
    """
    Initialise the last layer of a classifier, in place, as `from_pretrained` does one that the checkpoint does not hold: its
    parameters are then among the [`new_parameters`]. If the model has several heads, such as an auxiliary one, that of each.
    Returns whether it was pre-trained.

    Raises:
        ValueError: no such layer outside the base model has a row for each class.
    """
    config: Any = model.config
    rows: int = config.num_labels
    heads = {
        path: module
        for path, module in _outside_base(model, nn.Linear, nn.Conv2d).items()
        if len(module.weight) == rows
    }
    if not heads:
        raise ValueError(
            f"{type(model).__name__} has no layer with {rows} rows outside its base model that could begin anew"
        )
    if model.base_model is model:  # in which another layer may be as wide
        heads = _named_as_the_last(heads)
    parameters = [parameter for head in heads.values() for parameter in head.parameters()]
    if not any(map(is_loaded, parameters)):
        return False
    for parameter in parameters:
        mark_new(parameter)
    for head in heads.values():
        model._init_weights(head)  # type: ignore[no-untyped-call]
    return True


def grown_rows(model: nn.Module) -> dict[str, int]:
    """How many rows the parameters had that [`grow_classifier`] made longer, by name."""
    return {name: getattr(p, _MARK) for name, p in model.named_parameters() if hasattr(p, _MARK)}


def forget_growth(model: nn.Module) -> None:
    """Remove the marks of [`grow_classifier`]: all rows count as pre-trained from now on."""
    for parameter in model.parameters():
        if hasattr(parameter, _MARK):
            delattr(parameter, _MARK)


def _outside_base(model: PreTrainedModel, *kinds: type[nn.Module]) -> dict[str, Any]:
    base = {*model.base_model.modules()} if model.base_model is not model else set()
    return {path: module for path, module in model.named_modules() if isinstance(module, kinds) and module not in base}


def _named_as_the_last(modules: dict[str, Any]) -> dict[str, Any]:
    *_, last = modules
    return {path: module for path, module in modules.items() if path.rpartition(".")[2] == last.rpartition(".")[2]}


def _grow(parameter: nn.Parameter, rows: int, deviation: float) -> None:
    present = parameter.shape[0]
    new = torch.empty(rows - present, *parameter.shape[1:], dtype=torch.float32).normal_(0.0, deviation)
    whole: Tensor = torch.cat([parameter.data, new.to(parameter.device, parameter.dtype)])
    parameter.grad = None
    parameter.data = whole
    setattr(parameter, _MARK, min(present, getattr(parameter, _MARK, present)))
