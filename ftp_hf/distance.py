"""How far a fine-tuned model is from the pre-trained one: weight by weight, and as bounds on what its layers do.

How an owner reads these figures:

- `relative` is how much of a tensor was rewritten: 0.01 is a light touch, 0.5 means that little of the pre-training is
  left in it. A tensor that stands out is where to look first.
- `row_norm` (the MARS norm) is in the units of FTP's radii: after projection it is at most the learned radius, so the
  figure that the radius promises is an upper bound of this one. Rows have different lengths, so compare it between
  models, not between layers.
- `lipschitz` is a promise for *any* input, seen or not: if the input of that layer changes by at most `ε` in every
  component, what fine-tuning has *added* to its output changes by at most `lipschitz · ε`; and on an input `x` that
  addition is at most `lipschitz · ‖x‖∞`, plus the bias's `largest_change`. A small bound is a guarantee that the layer
  cannot misbehave where the pre-trained one did not. A large one is no proof of the opposite: see
  [`~ftp_hf.sensitivity`] for what happens on data.
- The bounds are of layers, one at a time. They do not add up to a bound on the whole network, whose layers pass their
  changes on through each other.

What is true of which parameter, in the ∞-norm:

| parameter                       | `lipschitz`                                         | `largest_change`                            |
| ------------------------------- | --------------------------------------------------- | ------------------------------------------- |
| weight of a linear layer        | `row_norm`: *is* the constant of the difference     | largest change of a weight                  |
| kernel of a convolution         | `row_norm` of the flattened kernels: the constant, if the input holds a whole kernel; with any padding a bound | the same |
| bias                            | none: it moves outputs by a constant                | how far at most                             |
| embedding                       | none: its inputs are numbers of words, not vectors  | how far at most a component of a word moves |
| scale of a normalisation layer  | none: the constant depends on the input's variance  | the constant, seen from the normalised input |
| anything else                   | none known                                          | largest change of an entry                  |

Buffers (batch-norm's statistics) are not parameters and not compared, though fine-tuning moves them too. Adapters have
to be merged into their weights first (`merge_and_unload()`).
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ftp_hf.common.names import canonical_name
from ftp_hf.common.precision import precise_dtype
from ftp_hf.pretrained.anchors import CheckpointAnchors, open_anchors
from ftp_hf.pretrained.origin import local_checkpoint, pretrained_rows
from ftp_hf.pretrained.rows import parameter_rows
from ftp_hf.projection.equations import RowDim, row_blocks, row_sums

__all__ = ["LINEAR_LAYERS", "ModelDistance", "ParameterDistance", "model_distance", "parameter_distance"]

LINEAR_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)
"""Layers whose output is linear in the input, except for the bias, with one row of the weight per output unit."""


@dataclass(frozen=True)
class ParameterDistance:
    """
    How far one parameter is from its pre-trained value.

    Args:
        name (`str`): without wrapper prefixes.
        row_norm (`float`): `max_row ‖W − W0‖₁`, the MARS norm.
        largest_change (`float`): the largest `|W − W0|` of an entry.
        frobenius (`float`): `‖W − W0‖₂` of all entries.
        pretrained_frobenius (`float`): `‖W0‖₂`.
        lipschitz (`float`, *optional*): of the layer's difference function in the ∞-norm, if it is one of
            `LINEAR_LAYERS` and this is its weight.
    """

    name: str
    row_norm: float
    largest_change: float
    frobenius: float
    pretrained_frobenius: float
    lipschitz: float | None = None

    @property
    def relative(self) -> float | None:
        """`‖W − W0‖₂ / ‖W0‖₂`; `None` where the pre-trained value is zero."""
        return self.frobenius / self.pretrained_frobenius if self.pretrained_frobenius else None


@dataclass(frozen=True)
class ModelDistance:
    """
    How far a model is from the pre-trained one.

    Args:
        parameters (`tuple[ParameterDistance, ...]`): those with a pre-trained value, in the order of the model; a
            tied weight once.
        new (`tuple[str, ...]`): the names of the others.
    """

    parameters: tuple[ParameterDistance, ...]
    new: tuple[str, ...]

    @property
    def row_norm(self) -> float:
        """The largest of all parameters."""
        return functools.reduce(_larger, (parameter.row_norm for parameter in self.parameters))

    @property
    def lipschitz(self) -> float | None:
        """The largest bound of a layer (of the network it is none); `None` without linear layers."""
        bounds = [parameter.lipschitz for parameter in self.parameters if parameter.lipschitz is not None]
        return functools.reduce(_larger, bounds) if bounds else None

    @property
    def frobenius(self) -> float:
        """`‖W − W0‖₂` of all parameters together."""
        return math.hypot(*(parameter.frobenius for parameter in self.parameters))

    @property
    def relative(self) -> float | None:
        """`‖W − W0‖₂ / ‖W0‖₂` of all parameters together; `None` if the pre-trained ones are all zero."""
        whole = math.hypot(*(parameter.pretrained_frobenius for parameter in self.parameters))
        return self.frobenius / whole if whole else None


def model_distance(model: nn.Module, pretrained: Mapping[str, Tensor] | str | Path) -> ModelDistance:
    """
    How far a fine-tuned model is from the pre-trained one.

    Args:
        model (`nn.Module`): the fine-tuned model, whole and on one device.
        pretrained (`Mapping[str, Tensor]`, `str` or `Path`): the pre-trained weights: a mapping such as a state dict,
            or a folder of `save_pretrained`, a safetensors file or a name on the Hub, of which one tensor at a time is
            read. Tensors are found as [`~ftp_hf.pretrained.anchors.CheckpointAnchors`] says.

    Returns:
        [`ModelDistance`]: a parameter that `pretrained` does not hold, or holds in another shape, is listed as new; of
        resized embeddings, the rows are compared that both have.

    Raises:
        ValueError: `pretrained` holds none of the parameters.
    """
    if isinstance(pretrained, str | Path):
        pretrained = CheckpointAnchors(local_checkpoint(str(pretrained)), model)
    anchors = open_anchors(pretrained)
    rows, resized = parameter_rows(model), pretrained_rows(model, anchors)
    linear = {id(layer.weight) for layer in model.modules() if isinstance(layer, LINEAR_LAYERS)}
    distances, new = [], []
    for full_name, parameter in model.named_parameters():
        name = canonical_name(full_name)
        anchor = anchors[name] if name in anchors else None  # noqa: SIM401 (a checkpoint reads what is asked for)
        count = resized.get(full_name)
        if anchor is None or (anchor.shape != parameter.shape and count is None):
            new.append(name)
            continue
        row_dim, is_linear = rows.get(full_name, 0), id(parameter) in linear
        weight, before = (parameter, anchor) if count is None else (parameter[:count], anchor[:count])
        distances.append(parameter_distance(name, weight, before, row_dim, linear=is_linear))
    if not distances:
        raise ValueError(
            "pretrained= holds none of the model's parameters in their shapes. Pass the checkpoint that the model was "
            "fine-tuned from; merge adapters into the model before (merge_and_unload())"
        )
    return ModelDistance(tuple(distances), tuple(new))


@torch.no_grad()
def parameter_distance(
    name: str, weight: Tensor, anchor: Tensor, row_dim: RowDim = 0, *, linear: bool = False
) -> ParameterDistance:
    """
    How far one parameter is from its pre-trained value, computed in float32 (or float64, if it is) a block of rows at
    a time.

    Args:
        name (`str`): its name.
        weight (`Tensor`): `W`.
        anchor (`Tensor`): `W0`, same shape, of any dtype and on any device.
        row_dim (`int` or tuple of `int`, *optional*, defaults to 0): the dimensions that count rows, one per output unit.
        linear (`bool`, *optional*, defaults to `False`): whether it is the weight of one of `LINEAR_LAYERS`.

    Returns:
        [`ParameterDistance`]
    """
    dtype = torch.promote_types(precise_dtype(weight), anchor.dtype)
    row_norm = largest = square = anchor_square = 0.0
    for w, w0 in row_blocks(row_dim, weight, anchor):
        before = w0.to(w.device, dtype)
        change = (w.to(dtype) - before).abs()
        row_norm = _larger(row_norm, row_sums(change, row_dim).max().item())
        largest = _larger(largest, change.max().item())
        square += change.square().sum().item()
        anchor_square += before.square().sum().item()
    return ParameterDistance(
        name, row_norm, largest, math.sqrt(square), math.sqrt(anchor_square), row_norm if linear else None
    )


def _larger(so_far: float, found: float) -> float:
    # `max` would drop the NaN of a model that diverged.
    return math.nan if math.isnan(found) else max(so_far, found)
