"""One projected tensor: what a step needs to know of it, and the state that it keeps."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .equations import RowDim, row_dims
from .layout import Grid, Layout, grid_of, layout_of
from .radius import RADIUS, RadiusState, WithRadius
from .sharding import Sharding, like, local, local_rows

__all__ = [
    "DIRECTION",
    "GRADIENT_DTYPES",
    "HELD",
    "HELD_DTYPES",
    "ProjectedTensor",
    "check_shape",
    "placed",
]

HELD = "anchor_or_direction"
"""The key of the buffer in the optimizer's state."""

DIRECTION = "direction"
"""The key of the direction, where both are kept."""

HELD_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What the buffer of a float32 weight can be."""

GRADIENT_DTYPES = (torch.float32, torch.bfloat16)
"""What the gradient of a float32 weight can be."""


@dataclass(eq=False)
class ProjectedTensor(WithRadius):
    """
    A tensor that takes part in the projection, with its state: for one step, or for several between which nothing but the numbers in
    its memory changes (optim/findings.py says when that is so).

    Between steps only one of the displacement and the anchor has to be kept beside the weight, in one buffer:

    - *Off the floor*, the buffer holds the anchor `W0`, and the displacement is what the weight is away from it.
    - *At the floor* (`γ = 1e-8`, after the first step and whenever the radius returns there), the weight would be within
      1e-8 of its anchor, where float32 cannot tell the displacement from rounding. So the weight is exactly the anchor,
      and the buffer holds the direction `c / ‖c‖₁`, from which the radius learns at the next step. That step starts by
      copying the anchor back. A row that is not finite then is NaN throughout, and its anchor stays in the buffer.

    In float64, which is for comparing figures and not for large models, anchor and direction are both kept, and the
    weights are those of the published method to the last digits.

    The buffer is of the narrowest dtype that holds the anchor exactly: bfloat16 or float16 for a checkpoint that was
    saved in it, even if it was loaded as float32.
    """

    name: str
    parameter: Tensor
    """The parameter, or the float32 master of a 16-bit one. The whole tensor, if it is sharded."""
    weight: Tensor
    """The part of the parameter that this process has; of its first rows alone, where only these are projected. Between steps it
    is in bfloat16 if the parameter is, and has no master."""
    source: Tensor
    """What has the gradient: the parameter, or the one that a master stands in for."""
    state: dict[str, Any]
    group: dict[str, Any]
    row_dim: RowDim
    """The dimension that counts rows, or those that count them together."""
    sharding: Sharding | None
    """How the parameter is spread over processes; `None` if each has all of it."""
    pretrained_rows: int | None = None
    """
    How many of the first indices of dimension 0 are projected, as the others have no pre-trained value; `None` for all.
    The state has the shape of the parameter all the same.
    """
    rounded: Tensor | None = None
    """The bfloat16 parameter that all of the weight is the master of, for kernels that round it on their way."""

    @classmethod
    def of(
        cls,
        name: str,
        parameter: Tensor,
        stands_for: Tensor | None,
        state: dict[str, Any],
        group: dict[str, Any],
        row_dim: RowDim,
        pretrained_rows: int | None = None,
    ) -> "ProjectedTensor":
        """
        The tensor of a parameter or a master. Call it with gradients disabled. `stands_for` is the parameter that the master
        stands in for during a step, which has the gradient and is the master rounded after it. `pretrained_rows` is how many of
        the first rows are projected; all by default.

        Raises:
            ValueError: the parameter is sharded in a way that cannot be projected.
        """
        sharding = Sharding.of(name, parameter, row_dim)
        source = parameter if stands_for is None else stands_for
        tensor = cls(name, parameter, local(parameter), source, state, group, row_dim, sharding, pretrained_rows)
        tensor.weight = tensor.projected(tensor.weight)
        # Kernels round to the nearest.
        if stands_for is not None and pretrained_rows is None and not group.get("stochastic_rounding", False):
            tensor.rounded = local(stands_for.detach())
        return tensor

    @property
    def grad(self) -> Tensor | None:
        """The gradient of the weight, if there is one now; of a master, in the dtype of the parameter that it stands in for."""
        gradient = self.source.grad
        grad = None if gradient is None else local(gradient)
        # A sparse one, which has no views, is refused as that of a whole tensor is.
        return grad if grad is None or grad.is_sparse else self.projected(grad)

    @property
    def gradient(self) -> Tensor:
        """The gradient of this step."""
        gradient = self.grad
        if gradient is None:
            raise ValueError(f"{self.name} has no gradient")
        return gradient

    @cached_property
    def held(self) -> Tensor:
        """
        The buffer: the anchor, or at the floor the direction. The shape of the weight.

        Raises:
            ValueError: it has another shape, so that kernels would read and write past its end.
        """
        return self._kept(HELD)

    @property
    def direction(self) -> Tensor | None:
        """`c(t−1) / ‖c(t−1)‖₁`, which only float64 keeps beside the anchor. The shape of the weight."""
        return self._kept(DIRECTION) if DIRECTION in self.state else None

    def _kept(self, key: str) -> Tensor:
        kept = local(self.state[key])
        check_shape(self.name, local(self.parameter), key, kept)
        return self.projected(kept)

    @property
    def is_fragment(self) -> bool:
        """Whether the tensor is one row of which this process has a part."""
        return self.sharding is not None and self.sharding.splits_rows

    @cached_property
    def shape(self) -> tuple[int, int]:
        """The number of rows of the weight, and of elements in a row."""
        if not self.weight.numel():
            return 0, 1
        rows = _rows(self.weight, self.row_dim)
        return rows, self.weight.numel() // rows

    @property
    def whole_rows(self) -> int:
        """The number of rows of the parameter that are projected."""
        rows = _rows(self.parameter, self.row_dim)
        if self.pretrained_rows is None or self.parameter.ndim < 2:
            return rows
        return rows // self.parameter.shape[0] * self.pretrained_rows

    @property
    def fan_in(self) -> int:
        """The number of elements in a row of the whole parameter, wherever its parts are, of those that are projected."""
        if self.parameter.ndim < 2:
            return self.parameter.numel() if self.pretrained_rows is None else self.pretrained_rows
        return self.parameter.numel() // _rows(self.parameter, self.row_dim)

    @cached_property
    def layout(self) -> Layout | None:
        """How weight, buffer and gradient lie in memory; `None` if they are no such matrices."""
        weight, grad = self.weight, self.grad
        gradient = weight if grad is None else grad
        if gradient.shape != weight.shape:
            return None  # It was computed before the weight was resized: torch's own operations refuse it.
        return layout_of(tuple(weight.shape), weight.stride(), self.held.stride(), gradient.stride(), self.row_dim)

    @cached_property
    def grid(self) -> Grid | None:
        """The [`layout`] as a grid; `None` if it is none."""
        layout, (_, columns) = self.layout, self.shape
        return None if layout is None else grid_of(layout, columns)

    def first_state(self, anchor: Tensor, radius: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """
        The state before the first step.

        Args:
            anchor (`Tensor`): `W0`, the shape of the weight.
            radius (`Tensor`): γ, 0-D.
            dtype (`torch.dtype`): of the buffer.
        """
        parameter = self.parameter.detach()
        kept = {DIRECTION: torch.zeros_like(parameter)} if parameter.dtype == torch.float64 else {}
        return kept | {
            HELD: like(parameter, self.whole(anchor), dtype=dtype, **_place(parameter, self.group["anchor_device"])),
            RADIUS: torch.stack(RadiusState.first(radius.to(self.weight))),
        }

    def with_state(self, state: dict[str, Any]) -> "ProjectedTensor":
        """The tensor with another state."""
        return replace(self, state=state)

    def widened(self) -> "ProjectedTensor":
        """The tensor with a copy of a bfloat16 weight in float32."""
        return replace(self, weight=self.weight.float()) if self.weight.dtype == torch.bfloat16 else self

    def anchor(self) -> Tensor:
        """`W0`, in the dtype of the weight and on its device."""
        weight = self.weight.detach()
        return torch.where((self.radius_state.at_floor > 0) & ~weight.isnan(), weight, self.held.to(weight))

    def projected(self, part: Tensor) -> Tensor:
        """Of a tensor that has the shape of the part of the parameter that is here, the rows that are projected: a view."""
        return part if self.pretrained_rows is None else part[: local_rows(self.parameter, self.pretrained_rows)]

    def whole(self, values: Tensor) -> Tensor:
        """The part of the parameter that is here with other values, the shape of the weight, in the rows that are projected."""
        if self.pretrained_rows is None:
            return values
        part = local(self.parameter).detach().to(values.dtype, copy=True)
        self.projected(part).copy_(values)
        return part


def check_shape(name: str, parameter: Tensor, key: str, kept: Tensor) -> None:
    """
    Raise if what the optimizer keeps of a parameter (`kept`, under `key` in its state) has another shape than the parameter, as
    after embeddings were resized. Both may be the same part of the whole.
    """
    if kept.shape != parameter.shape:
        raise ValueError(
            f"{name} has shape {tuple(parameter.shape)}, but {key} in its optimizer state has shape {tuple(kept.shape)}: it was "
            "resized after a step, or the state was saved with another shape. Build a new optimizer, with the pre-trained "
            "weights as anchors= and, where rows were added, how many are old as pretrained_rows= (FTPTrainer goes on with "
            "added rows at the next train()), or load a state of this shape"
        )


def _rows(tensor: Tensor, row_dim: RowDim) -> int:
    return math.prod(tensor.shape[dim] for dim in row_dims(row_dim, tensor.ndim))


def placed(held: Tensor, parameter: Tensor, anchor_device: str | None) -> Tensor:
    """
    The buffer on the device of its parameter, or, where the option `anchor_device` is `"cpu"`, in host memory, pinned if the
    parameter is on a CUDA device.
    """
    place = _place(parameter, anchor_device)
    if held.device == place["device"] and not place["pin_memory"]:
        return held
    return like(held, local(held), **place)


def _place(parameter: Tensor, anchor_device: str | None) -> dict[str, Any]:
    device = parameter.device if anchor_device is None else torch.device(anchor_device)
    return {"device": device, "pin_memory": anchor_device is not None and parameter.is_cuda}
