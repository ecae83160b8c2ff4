"""A tensor that transformers makes of others when it loads a checkpoint. Needs no transformers to be imported."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["ConvertedTensor"]


@dataclass(frozen=True)
class ConvertedTensor:
    """
    A tensor that `from_pretrained` makes of others: of all experts of a layer one, or of a fused projection three.

    Args:
        name (`str`): what the model calls it.
        keys (tuple of `str`): the tensors of the checkpoint that it is made of, in the order that counts.
        patterns (tuple of `str`): the place of each in the conversion.
        converter (`WeightConverter`): the conversion, which has collected nothing yet.
        first (`str`): the name of the conversion's first result.
        model (`PreTrainedModel`): whose conversion it is.
    """

    name: str
    keys: tuple[str, ...]
    patterns: tuple[str, ...] = field(compare=False)
    converter: Any = field(compare=False, repr=False)
    first: str = field(compare=False)
    model: Any = field(compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ConvertedTensor":
        # Nothing in it changes, and a copy would be of all of the model's weights.
        return self

    def make(self, read: Callable[[str], Tensor]) -> Tensor:
        """
        The tensor. `read` gives a tensor of the checkpoint by its key, whole or on the meta device.

        Raises:
            ValueError: these tensors do not make this one, as where the checkpoint holds some of them only.
        """
        converter = copy.deepcopy(self.converter)
        for pattern, key in zip(self.patterns, self.keys, strict=True):
            converter.add_tensor(self.first, key, pattern, read(key))
        try:
            made = converter.convert(self.first, model=self.model, config=self.model.config)
            tensor: Tensor | list[Tensor] = made[self.name]
        except (LookupError, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.name} cannot be made of {', '.join(self.keys)}: {error}") from error
        return tensor[0] if isinstance(tensor, list) else tensor
