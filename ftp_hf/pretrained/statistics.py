"""The running statistics of batch norms, which training moves without any step of an optimizer."""

from collections.abc import Collection, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ftp_hf.common.names import base_name, canonical_name

from .anchors import CheckpointAnchors
from .origin import has_adapters, has_origin, local_checkpoint, new_parameters

__all__ = ["new_statistics", "new_tensors", "pretrained_statistics"]


def pretrained_statistics(model: nn.Module) -> dict[str, nn.Module]:
    """
    The modules whose running statistics are pre-trained: batch norms of any dimension, `SyncBatchNorm`, and instance norms
    with `track_running_stats`, which also compute with these statistics in evaluation mode, and with those of the batch in
    training. In evaluation mode such a module keeps them, while its weight and bias can still be trained.

    Args:
        model (`nn.Module`): any model. Where nothing says where it came from, all of them count as pre-trained.

    Returns:
        `dict[str, nn.Module]`: by name; without those of a new head, whose weights, or without weights, whose statistics,
        the checkpoint of the model does not hold.

    Raises:
        UnknownOriginError: as [`~ftp_hf.pretrained.new_parameters`].
    """
    new = new_statistics(model)
    return {name: norm for name, norm in _with_statistics(model).items() if name not in new}


def new_statistics(model: nn.Module) -> dict[str, nn.Module]:
    """
    The others: batch norms of a new head, whose statistics have to be found in training.

    Raises:
        UnknownOriginError: as [`~ftp_hf.pretrained.new_parameters`].
    """
    norms = _with_statistics(model)
    new = _new(model, norms, new_parameters(model)) if norms and has_origin(model) else set()
    return {name: norms[name] for name in new}


def new_tensors(model: nn.Module) -> set[str]:
    """
    The names in a model's state dict that have no pre-trained value: the [`~ftp_hf.pretrained.new_parameters`], and the
    statistics of batch norms of a new head.

    Args:
        model (`nn.Module`): any model.

    Raises:
        UnknownOriginError: as [`~ftp_hf.pretrained.new_parameters`].
    """
    parameters, norms = new_parameters(model), _with_statistics(model)
    return parameters | {
        f"{name}.{buffer}"
        for name in _new(model, norms, parameters)
        for buffer, _ in norms[name].named_buffers(recurse=False)
    }


def _with_statistics(model: nn.Module) -> dict[str, _NormBase]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None
    }


def _new(model: nn.Module, norms: Mapping[str, _NormBase], parameters: Collection[str]) -> set[str]:
    without_weight = [name for name, norm in norms.items() if norm.weight is None]
    new = {name for name in norms if f"{name}.weight" in parameters}
    return new | _missing(model, without_weight) if without_weight else new


def _missing(model: nn.Module, norms: Collection[str]) -> set[str]:
    """Those whose statistics are not in the checkpoint; the mark of `from_pretrained` on a buffer is lost with its device."""
    origin = getattr(model, "name_or_path", "")
    if not origin:
        return set()
    try:
        held = CheckpointAnchors(local_checkpoint(origin), model)
    except FileNotFoundError:
        return set()
    inner = base_name if has_adapters(model) else str
    return {name for name in norms if inner(canonical_name(f"{name}.running_mean")) not in held}
