"""Models with adapters of PEFT, and what they come to when merged."""

import copy

__all__ = ["merged"]


def merged(model):
    """Name → weight, of the model that `merge_and_unload` makes of it."""
    return {name: weight.detach() for name, weight in copy.deepcopy(model).merge_and_unload().named_parameters()}
