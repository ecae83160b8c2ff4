"""The options with which an optimizer projects a model with adapters."""

from pathlib import Path
from typing import Any

from torch import nn

from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.origin import local_checkpoint, new_parameters, transposed_parameters

from .find import find_adapters

__all__ = ["adapter_options"]


def adapter_options(
    model: nn.Module, adapters: str = "product", *, exclude_new: bool = True, anchors: str | Path | None = None
) -> dict[str, Any]:
    """
    The options with which [`FTPAdamW`], [`FTPSGD`] and [`FTP`] project a model with adapters, for any training loop.
    ([`FTPTrainer`] sees adapters by itself.)

    Args:
        model (`nn.Module`): with adapters of PEFT, the ones to train active.
        adapters (`str`, *optional*, defaults to `"product"`): what is projected, as for [`find_adapters`].
        exclude_new (`bool`, *optional*, defaults to `True`): leave trained modules that the pre-trained checkpoint does
            not hold, such as a new head in `modules_to_save`, unprojected.
        anchors (`str` or `Path`, *optional*): the pre-trained checkpoint (a folder, a file, or a name on the Hub), where
            what is trained beside the adapters was trained before: loading an adapter that was saved with its biases
            overwrites those of the base. By default the weights in memory.

    Returns:
        `dict[str, Any]`: `low_rank`, `exclude`, `transposed` and `anchors`.

    Raises:
        ValueError: as [`find_adapters`].

    Example:
        ```python
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        optimizer = FTPAdamW(trained, lr=1e-4, **adapter_options(model))
        ```
    """
    found = find_adapters(model, adapters)
    checkpoint = None if anchors is None else CheckpointAnchors(local_checkpoint(str(anchors)), model)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    unprojected = [*found.plain, *(found.new(named, new_parameters(model, checkpoint)) if exclude_new else ())]
    dense = {name: parameter for name, parameter in named.items() if name not in found.factors | {*unprojected}}
    return {
        "low_rank": found.updates,
        "exclude": unprojected,
        "transposed": [name for name in transposed_parameters(model) if name in dense],
        "anchors": found.anchors(dense, checkpoint),
    }
