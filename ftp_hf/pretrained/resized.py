"""
Embeddings that were resized: which of their rows a checkpoint holds.

`resize_token_embeddings` keeps the first rows of the input embeddings, of the output embeddings with their bias, and in a
few models of other tensors with a row for each token (Gemma 4's embeddings of each layer), and adds rows at the end or takes
them away (transformers 5.18 to 5.23). Any other tensor of another shape than the checkpoint's was newly initialised: a head of
other classes, embeddings that `ignore_mismatched_sizes` did not load.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from .anchors import CheckpointAnchors
from .loading import is_loaded
from .rows import parameter_rows

__all__ = ["embedding_parameters", "first_rows", "has_other_vocabulary"]


def embedding_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """
    The parameters that resizing can have changed, by name: the input and output embeddings of the models of transformers in a
    model, and what has as many rows, unless `from_pretrained` did not load the input embeddings.
    """
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    held = {parameter for part in parts for parameter in _embeddings(part)}
    otherwise = parameter_rows(model) if held else {}
    return {name: p for name, p in model.named_parameters() if p in held and p.ndim <= 2 and name not in otherwise}


def _embeddings(model: PreTrainedModel) -> list[nn.Parameter]:
    try:
        inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    except (AttributeError, NotImplementedError):
        return []
    if not isinstance(inputs, nn.Module) or (_has_loaded(model) and not _has_loaded(inputs)):
        return []
    tokens = {parameter.shape[0] for parameter in inputs.parameters() if parameter.ndim == 2}
    others = [p for p in model.parameters() if p.ndim in (1, 2) and p.shape[0] in tokens]
    return [*inputs.parameters(), *(outputs.parameters() if isinstance(outputs, nn.Module) else ()), *others]


def _has_loaded(module: nn.Module) -> bool:
    return any(map(is_loaded, module.parameters()))


def first_rows(
    parameters: Mapping[str, Tensor], name_of: Mapping[str, str], anchors: Mapping[str, Tensor]
) -> dict[str, int]:
    """
    How many of the first rows of parameters a checkpoint holds.

    Args:
        parameters (mapping from `str` to `Tensor`): that resizing can have changed.
        name_of (mapping from `str` to `str`): what each is called in the checkpoint.
        anchors (mapping from `str` to `Tensor`): the checkpoint.

    Returns:
        `dict[str, int]`: of the parameters that differ from the checkpoint in the number of rows alone.
    """
    rows = {}
    for name, parameter in parameters.items():
        shape = _shape(anchors, name_of[name])
        others = tuple(parameter.shape[1:])
        if len(shape) == parameter.ndim and shape[1:] == others and shape[0] != parameter.shape[0]:
            rows[name] = min(shape[0], parameter.shape[0])
    return rows


def _shape(anchors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in anchors:
        return ()
    return anchors.shape(name) if isinstance(anchors, CheckpointAnchors) else tuple(anchors[name].shape)


def has_other_vocabulary(model: PreTrainedModel) -> bool:
    """
    Whether the config of a model has another size of the vocabulary than its checkpoint was saved with. That is read without
    its tensors, and without asking the Hub. `False` where the checkpoint's config is not here.
    """
    try:
        if cached_file(str(model.name_or_path), CONFIG_NAME, local_files_only=True) is None:
            return False  # of a folder without one `from_pretrained` makes the default config
        saved = type(model.config).from_pretrained(str(model.name_or_path), local_files_only=True)
        before, now = (config.get_text_config() for config in (saved, model.config))
    except (OSError, ValueError):
        return False
    return getattr(before, "vocab_size", None) != getattr(now, "vocab_size", None)
