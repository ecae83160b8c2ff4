"""
Which dimensions of a parameter count its rows: a fact of the module that uses it, known here and nowhere else.

A row is what computes one output unit: the weights whose L1 norm bounds how far one output moves. They are a slice along
dimension 0 of most parameters (linear layers, convolutions, and embeddings, whose rows are tokens), so that only the
others are listed. docs/rows.md has the census of transformers' architectures that this comes from.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

__all__ = ["parameter_rows"]

_TRANSPOSED_EXPERTS = {"Llama4TextExperts"}
"""Modules with experts in one tensor (experts, in, out) that do not say so themselves with `is_transposed`."""

_BY_MODULE: dict[tuple[str, str], tuple[int, ...]] = {
    # (in, heads, units of a head); the output projection `o`, (out, heads, units), has its rows along dimension 0.
    **{("XLNetRelativeAttention", name): (1, 2) for name in "qkvr"},
    # As XLNet's r: it makes keys of positions, though it is multiplied into the queries.
    ("FunnelRelMultiheadAttention", "r_kernel"): (1, 2),
    # One matrix per head or codebook, multiplied from the right.
    ("CsmCodebooksHead", "weight"): (0, 2),
    ("RecurrentGemmaRglru", "input_gate_weight"): (0, 2),
    ("RecurrentGemmaRglru", "recurrent_gate_weight"): (0, 2),
    # One matrix per expert or head, multiplied from the left; a table of positions per axis.
    ("JetMoeParallelExperts", "weight"): (0, 1),
    ("ZambaMambaMixer", "x_proj_weight"): (0, 1),
    ("ZambaMambaMixer", "dt_proj_weight"): (0, 1),
    ("ZambaMambaMixer", "A_log"): (0, 1),
    ("Gemma4VisionPatchEmbedder", "position_embedding_table"): (0, 1),
    # (in, out), multiplied from the right.
    ("Gemma3MultiModalProjector", "mm_input_projection_weight"): (1,),
    ("T5Gemma2MultiModalProjector", "mm_input_projection_weight"): (1,),
    ("XCLIPModel", "prompts_visual_projection"): (1,),
    ("SamPositionalEmbedding", "positional_embedding"): (1,),
    ("SamHQPositionalEmbedding", "positional_embedding"): (1,),
    ("InklingRelativeLogits", "proj"): (1,),
    ("Inkling2RelativeLogits", "proj"): (1,),
    ("SwiftFormerEfficientAdditiveAttention", "w_g"): (1,),
    # A convolution's taps of each channel: (taps, channels).
    ("Inkling2DynamicShortConvolution", "static_weight"): (1,),
}

_CONV_TRANSPOSE = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def parameter_rows(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """
    The parameters whose rows (output units) are not counted by dimension 0, as the option `rows` of [`FTPAdamW`] takes
    them.

    Args:
        model (`nn.Module`): any model, with or without adapters of PEFT.

    Returns:
        `dict[str, tuple[int, ...]]`: name → the dimensions that count rows, together if there are several. `(1,)` for
        transformers' `Conv1D` (GPT-2) and transposed convolutions; `(0, 1)` for experts in one tensor (experts, out, in),
        `(0, 2)` for (experts, in, out).

    Example:
        ```python
        optimizer = FTPAdamW(model.named_parameters(), lr=1e-4, rows=parameter_rows(model))
        ```
    """
    rows = {}
    for path, module in model.named_modules():
        for name, role, parameter, owner in _parameters(module):
            dims = _row_dims(owner, role, parameter)
            if dims != (0,):
                rows[f"{path}.{name}" if path else name] = dims
    return rows


def _parameters(module: nn.Module) -> Iterator[tuple[str, str, Tensor, nn.Module]]:
    """Each parameter: its name, what it is called in the module that uses it, itself, and that module."""
    for name, parameter in module.named_parameters(recurse=False):
        # torch.nn.utils.weight_norm splits a weight into `weight_g`, a factor per slice of dimension 0, and `weight_v`.
        yield name, name.removesuffix("_v"), parameter, module
    if parametrize.is_parametrized(module):
        for role, originals in module.parametrizations.items():  # type: ignore[union-attr, operator]
            for name, parameter in originals.named_parameters(recurse=False):
                if name in ("original", "original1"):
                    yield f"parametrizations.{role}.{name}", role, parameter, module


def _row_dims(module: nn.Module, name: str, parameter: Tensor) -> tuple[int, ...]:
    if isinstance(module, Conv1D):
        return (1,) if name == "weight" else (0,)
    if isinstance(module, _CONV_TRANSPOSE):
        return _of_transposed_convolution(module) if name == "weight" else (0,)
    # By all of its classes, because FSDP2 puts one of its own before them.
    classes = [kind.__name__ for kind in type(module).__mro__]
    for kind in classes:
        if (kind, name) in _BY_MODULE:
            return _BY_MODULE[kind, name]
    if parameter.ndim == 3 and (hasattr(module, "is_transposed") or any(kind.endswith("Experts") for kind in classes)):
        # transformers' use_experts_implementation says which way the weights lie (5.18 to 5.23).
        is_transposed = getattr(module, "is_transposed", not _TRANSPOSED_EXPERTS.isdisjoint(classes))
        return (0, 2) if is_transposed else (0, 1)
    return (0,)


def _of_transposed_convolution(module: nn.Module) -> tuple[int, ...]:
    """Of a weight (in, out / groups, kernel…)."""
    if module.groups == module.in_channels:
        return 0, 1
    # In groups, the output units are a group of input channels and a channel of dimension 1. No dimensions count those;
    # a row along dimension 1 holds one unit of every group, whose norms its own bounds.
    return (1,)
