"""What a transformers model says of the checkpoint that it came from."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME
from transformers.utils.hub import cached_file

from ftp_hf.common.folder import MODULES, TRAINER_STATE
from ftp_hf.common.logs import warn_once
from ftp_hf.common.names import base_name, canonical_name
from ftp_hf.projection.sharding import is_dtensor

from .anchors import CheckpointAnchors
from .growing import grown_rows
from .loading import is_loaded, is_renewed, mark_loaded
from .modules import ROUTER, module_folders
from .parts import outermost_models
from .renaming import rebuilt_parameters
from .resized import embedding_parameters, first_rows, has_other_vocabulary

__all__ = [
    "UnknownOriginError",
    "adapter_parameters",
    "has_adapters",
    "has_origin",
    "is_fine_tuned",
    "local_checkpoint",
    "new_parameters",
    "pretrained_rows",
]

logger = logging.getLogger(__name__)

_UNKNOWN = (
    "Nothing tells which parameters of this %s are new, because from_pretrained did not make it: all count as "
    "pre-trained, with their present values. Name the new ones in exclude, in ftp_exclude of FTPTrainer "
    "(ftp_exclude_new=False if there are none), or in new= of the trainers of other methods."
)
_UNREAD = (
    "The vocabulary was resized, and which rows of the embeddings are pre-trained is told by the checkpoint, which "
    "cannot be read: %s Name how many in pretrained_rows, or the checkpoint in ftp_anchors."
)
_OTHERS = (
    "Not loaded from the checkpoint, which holds other values of the same shape, so that they count as new: %s. If they "
    "are pre-trained all the same, set ftp_exclude_new=False and name what is new in ftp_exclude."
)


class UnknownOriginError(ValueError):
    """The checkpoint that a model says it was loaded from cannot be read."""


def new_parameters(model: nn.Module, anchors: CheckpointAnchors | None = None) -> set[str]:
    """
    The parameters without a pre-trained value: those that `from_pretrained` did not find in the checkpoint, or found in
    another shape, and so initialised (a new classification head), and those that have replaced others since,
    unless they have the values of a checkpoint that is here, such as the copies that PEFT leaves of `modules_to_save` where
    it merges. Of resized embeddings the first rows have a value: they are not listed, [`pretrained_rows`] says how many. Nor
    are parameters that the model computes itself and never saves, such as Marian's sinusoidal positions.

    Args:
        model (`nn.Module`): a model of transformers.
        anchors (`CheckpointAnchors`, *optional*): the pre-trained checkpoint, if it is not the one that the model was
            loaded from. Parameters outside the base model that it does not hold are new too.

    Returns:
        `set[str]`: their names; empty for a model that was not loaded from a checkpoint, of which nothing is known: a line in
        the log says so, once for each class of models, where `anchors` do not show it either.

    Raises:
        UnknownOriginError: the model is a copy, or made of a config, and its checkpoint is not there to be looked at.
    """
    if anchors is None and not has_origin(model):
        warn_once(logger, _UNKNOWN, type(model).__name__)
    rebuilt = rebuilt_parameters(model)
    name_of = {name: inner for name, inner in _names_in_checkpoint(model).items() if name not in rebuilt}
    new = {name for name, p in model.named_parameters() if name in name_of and not is_loaded(p)}
    if len(new) == len(name_of):
        # Not loaded from a checkpoint, or copied since.
        origin = getattr(model, "name_or_path", "")
        held = _origin_of(model, origin) if origin else name_of.values()
        new = {name for name in name_of if name_of[name] not in held}
    else:
        new -= _copied(model, new)
        if anchors is None:
            new -= _held_by_other_modules(model, new - _in_transformers(model))
    body = getattr(model, "base_model_prefix", "")
    if anchors is not None and body:
        new |= {name for name in name_of if not name_of[name].startswith(f"{body}.") and name_of[name] not in anchors}
    if anchors is not None:
        # `from_pretrained` marks nothing outside the models of transformers.
        new -= {name for name in new - _in_transformers(model) if name_of[name] in anchors}
    return new - pretrained_rows(model, anchors).keys()


def pretrained_rows(model: nn.Module, anchors: Mapping[str, Tensor] | None = None) -> dict[str, int]:
    """
    Of which parameters only the first rows have a pre-trained value, as the option `pretrained_rows` of [`FTPAdamW`] takes
    them: input and output embeddings that `resize_token_embeddings` changed, and heads that [`grow_classifier`] did.

    Args:
        model (`nn.Module`): any model, with or without adapters of PEFT.
        anchors (mapping from `str` to `Tensor`, *optional*): the pre-trained weights, if they are not those of the
            checkpoint that the model was loaded from.

    Returns:
        `dict[str, int]`: name → how many; all of its rows, where the checkpoint holds more. Empty for a model whose
        checkpoint is not here, or holds no safetensors weights: a line in the log says so, if it was resized.

    Example:
        ```python
        model.resize_token_embeddings(len(tokenizer))
        optimizer = FTPAdamW(
            model.named_parameters(), lr=1e-4, exclude=new_parameters(model), pretrained_rows=pretrained_rows(model)
        )
        ```
    """
    grown = grown_rows(model)
    heads = {name: parameter for name, parameter in model.named_parameters() if name in grown}
    embeddings = embedding_parameters(model)
    if anchors is not None:
        return first_rows(embeddings | heads, _names_in_checkpoint(model), anchors)
    # A head that was new before it grew has no old rows.
    rows = {name: grown[name] for name, head in heads.items() if is_loaded(head)}
    for prefix, part in outermost_models(model, lambda part: bool(part.name_or_path)):
        if has_other_vocabulary(part):
            name_of = {f"{prefix}{name}": inner for name, inner in _names_in_checkpoint(part).items()}
            rows |= first_rows({name: embeddings[name] for name in embeddings.keys() & name_of}, name_of, _held(part))
    return rows


def _names_in_checkpoint(model: nn.Module) -> dict[str, str]:
    name_of = {name: canonical_name(name) for name, _ in model.named_parameters()}
    return {name: base_name(canonical) for name, canonical in name_of.items()} if has_adapters(model) else name_of


def _held(model: PreTrainedModel) -> Mapping[str, Tensor]:
    try:
        return CheckpointAnchors(local_checkpoint(str(model.name_or_path)), model)
    except FileNotFoundError as reason:
        warn_once(logger, _UNREAD, str(reason))
        return {}


def _origin_of(model: nn.Module, origin: str) -> CheckpointAnchors:
    try:
        return CheckpointAnchors(local_checkpoint(origin), model)
    except FileNotFoundError as reason:
        raise UnknownOriginError(
            f"which parameters are new is told by the checkpoint of the model, which cannot be read: {reason}. Load the "
            "model with from_pretrained and do not copy it, name its checkpoint in ftp_anchors, or set "
            "ftp_exclude_new=False and name what is new in ftp_exclude"
        ) from reason


def _copied(model: nn.Module, names: set[str]) -> set[str]:
    """Of parameters without a mark, those with the values of the checkpoint, which have the mark from now on."""
    copied: dict[str, nn.Parameter] = {}
    of_adapters = adapter_parameters(model)
    for prefix, part in outermost_models(model, lambda part: bool(part.name_or_path)):
        unmarked = {
            name: parameter
            for name, parameter in part.named_parameters()
            if f"{prefix}{name}" in names and parameter not in of_adapters and not is_renewed(parameter)
        }
        if not unmarked or (checkpoint := _at_hand(part)) is None:
            continue
        name_of = _names_in_checkpoint(part)
        held = {
            name: parameter
            for name, parameter in unmarked.items()
            if name_of[name] in checkpoint and checkpoint.shape(name_of[name]) == parameter.shape
        }
        others = {name for name, p in held.items() if not _has_values(p, checkpoint[name_of[name]])}
        # Zero biases of a head that was newly initialised are no sign of anything.
        initialised = {name.rpartition(".")[0] for name in (unmarked.keys() - held.keys()) | others}
        found = {f"{prefix}{name}": p for name, p in held.items() if name.rpartition(".")[0] not in initialised}
        if others:
            new = ", ".join(f"{prefix}{name}" for name in held if f"{prefix}{name}" not in found)
            warn_once(logger, _OTHERS, new)
        copied |= found
    mark_loaded(copied.values())
    return {*copied}


def _at_hand(model: PreTrainedModel) -> CheckpointAnchors | None:
    """The checkpoint of a model, if it is on this machine."""
    try:
        origin = str(model.name_or_path)
        folder = origin if Path(origin).exists() else snapshot_download(origin, local_files_only=True)
        return CheckpointAnchors(folder, model)
    except (OSError, ValueError):  # it is not here, holds no safetensors weights, or the name is none of the Hub's
        return None


def _has_values(parameter: nn.Parameter, values: Tensor) -> bool:
    if parameter.is_meta or is_dtensor(parameter):
        return False
    return torch.equal(parameter.detach(), values.to(parameter))


def _held_by_other_modules(model: nn.Module, names: set[str]) -> set[str]:
    """Of parameters outside the models of transformers, those that sentence-transformers loaded from the same checkpoint."""
    origins = {str(part.name_or_path) for _, part in outermost_models(model)}
    if not names or len(origins) != 1:
        return set()
    (origin,) = origins
    try:
        if not origin or cached_file(origin, MODULES, local_files_only=True) is None:
            return set()
        checkpoint = CheckpointAnchors(local_checkpoint(origin), model)
    except OSError:  # it is no list of modules, or holds no safetensors weights
        return set()
    held = {*checkpoint}  # by no name but their own
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return {name for name in names & held if checkpoint.shape(name) == shapes[name]}


def has_origin(model: nn.Module) -> bool:
    """Whether a model says which checkpoint it was loaded from, so that [`new_parameters`] knows what is new in it."""
    return any(map(is_loaded, model.parameters())) or bool(getattr(model, "name_or_path", ""))


def _in_transformers(model: nn.Module) -> set[str]:
    bodies = [(prefix, part) for prefix, part in model.named_modules() if isinstance(part, PreTrainedModel)]
    return {f"{prefix}.{name}".removeprefix(".") for prefix, part in bodies for name, _ in part.named_parameters()}


def local_checkpoint(name_or_path: str) -> Path:
    """
    The folder or file of a model's safetensors weights, for [`~ftp_hf.pretrained.anchors.CheckpointAnchors`]. A name on the Hub
    is fetched.

    Raises:
        FileNotFoundError: it is neither here nor could it be fetched.
    """
    if Path(name_or_path).exists():
        return Path(name_or_path)
    try:
        return _fetched(name_or_path)
    except (OSError, ValueError) as error:  # all errors of the Hub are one or the other, "no such name" too
        reason = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"{name_or_path!r} is no file or folder here, and could not be fetched from the Hub ({reason})"
        ) from error


def _fetched(name: str) -> Path:
    wanted = [CONFIG_NAME, "model*.safetensors", SAFE_WEIGHTS_INDEX_NAME]
    folder = Path(snapshot_download(name, allow_patterns=[*wanted, MODULES, f"*{ROUTER}"]))
    if parts := [part for part in module_folders(folder).values() if part]:
        snapshot_download(name, allow_patterns=[f"{part}/{file}" for part in parts for file in wanted])
    return folder


def is_fine_tuned(checkpoint: Path) -> bool:
    """
    Whether a `Trainer` wrote a local checkpoint, so that its weights are not the pre-trained ones. The files that a `Trainer`
    leaves beside the weights show it: a bare `save_pretrained` of a fine-tuned model is not recognised.
    """
    return any((checkpoint / name).exists() for name in (TRAINER_STATE, TRAINING_ARGS_NAME))


def has_adapters(model: nn.Module) -> bool:
    """Whether a model has adapters of PEFT: a `PeftModel`, or a model of transformers after `add_adapter`."""
    if "peft" not in sys.modules:
        return False
    from peft import PeftModel  # noqa: PLC0415 - optional, and imported already
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


def adapter_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters that adapters of PEFT added to a model, copies of what is trained whole (`modules_to_save`) included."""
    added = (
        getattr(module, name)
        for module in model.modules()
        for name in getattr(module, "adapter_layer_names", ())  # of PEFT's layers, 0.21
        if hasattr(module, name)
    )
    return {parameter for each in added if isinstance(each, nn.Module) for parameter in each.parameters()}
