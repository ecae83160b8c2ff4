"""What an optimizer has to know of the model that it projects: what is new in it, what its adapters do, which way rows lie."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.origin import local_checkpoint, new_parameters, pretrained_rows
from ftp_hf.pretrained.rows import parameter_rows

from .find import find_adapters, trains_adapters_alone

__all__ = ["adapter_options", "model_options"]

logger = logging.getLogger(__name__)


def adapter_options(
    model: nn.Module, adapters: str = "product", *, anchors: str | Path | None = None
) -> dict[str, Any]:
    """
    The options with which [`FTPAdamW`], [`FTPSGD`] and [`FTP`] project a model with adapters, for any training loop.
    ([`FTPTrainer`] sees adapters by itself.) Trained modules that the pre-trained checkpoint does not hold, such as a new head
    in `modules_to_save` or the new rows of resized embeddings, are left unprojected.

    Args:
        model (`nn.Module`): with adapters of PEFT, the ones to train active.
        adapters (`str`, *optional*, defaults to `"product"`): what is projected, as for [`find_adapters`].
        anchors (`str` or `Path`, *optional*): the pre-trained checkpoint (a folder, a file, or a name on the Hub), where
            what is trained beside the adapters was trained before: loading an adapter that was saved with its biases
            overwrites those of the base. By default the weights in memory.

    Returns:
        `dict[str, Any]`: `low_rank`, `exclude`, `rows`, `pretrained_rows` and `anchors`.

    Raises:
        ValueError: as [`find_adapters`].

    Example:
        ```python
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        optimizer = FTPAdamW(trained, lr=1e-4, **adapter_options(model))
        ```
    """
    checkpoint = None if anchors is None else CheckpointAnchors(local_checkpoint(str(anchors)), model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    new = set() if trains_adapters_alone(model) else new_parameters(model, checkpoint)
    return model_options(model, trained, new, pretrained_rows(model, checkpoint), adapters, checkpoint)


def model_options(
    model: nn.Module,
    trained: Mapping[str, Tensor],
    new: set[str],
    resized: Mapping[str, int],
    adapters: str = "product",
    checkpoint: CheckpointAnchors | None = None,
) -> dict[str, Any]:
    """
    As [`adapter_options`], from parts that the caller knows better. One line in the log names what is new.

    Args:
        model (`nn.Module`): with or without adapters of PEFT.
        trained (mapping from `str` to `Tensor`): the parameters that the optimizer is given, by name.
        new (set of `str`): the parameters to leave unprojected because they have no pre-trained value, as
            [`new_parameters`] returns them.
        resized (mapping from `str` to `int`): how many of the first rows of others have one, as [`pretrained_rows`]
            returns it.
        adapters (`str`, *optional*, defaults to `"product"`): what is projected, as for [`find_adapters`].
        checkpoint ([`CheckpointAnchors`], *optional*): the pre-trained model, where the one in memory is trained.

    Raises:
        ValueError: as [`find_adapters`].
    """
    found = find_adapters(model, adapters)
    rows = found.pretrained_rows(trained, resized)
    without_value = [*found.new(trained, new), *(name for name, count in rows.items() if not count)]
    rows = {name: count for name, count in rows.items() if count and name not in without_value}
    if without_value:
        logger.info("Not projected, because the checkpoint does not hold them: %s", ", ".join(without_value))
    if some := [f"{name} ({n} of {len(trained[name])})" for name, n in rows.items() if n < len(trained[name])]:
        logger.info("Projected in their first rows only, as the checkpoint holds no others: %s", ", ".join(some))
    unprojected = [*without_value, *found.plain]
    dense = {name: trained[name] for name in trained.keys() - found.factors - {*unprojected}}
    return {
        "low_rank": found.updates,
        "exclude": unprojected,
        "rows": {name: dims for name, dims in parameter_rows(model).items() if name in trained},
        "pretrained_rows": rows,
        "anchors": found.anchors(dense, checkpoint),
    }
