"""What parameters are called: without wrappers, without adapters, by layer, and by the patterns that name them."""

import functools
import re
from fnmatch import fnmatchcase

__all__ = ["base_name", "canonical_name", "first_match", "layer_of", "matches"]


_WRAPPER = re.compile(
    r"^base_model\.(model\.)?|\.(base_layer|original_module|token_adapter|modules_to_save\.[^.]+)(?=\.|$)"
)


def canonical_name(name: str) -> str:
    """
    A parameter's name without what wrappers add to it: `module.` in front (DDP), `_orig_mod.` anywhere
    (`torch.compile`, of the model or of one of its layers).

    Args:
        name (`str`): for example `"module.bert._orig_mod.embeddings.weight"`.

    Returns:
        `str`: for example `"bert.embeddings.weight"`.
    """
    return name.replace("_orig_mod.", "").removeprefix("module.")


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a parameter goes by one of the names or glob patterns, with or without wrapper prefixes."""
    return first_match(name, patterns) is not None


@functools.cache
def first_match(name: str, patterns: tuple[str, ...]) -> str | None:
    """The first of the names or glob patterns that a parameter goes by, with or without wrapper prefixes."""
    candidates = (name, canonical_name(name))
    return next((pattern for pattern in patterns if any(fnmatchcase(it, pattern) for it in candidates)), None)


def base_name(name: str) -> str:
    """
    What a parameter of a model with adapters is called in the model without them.

    Args:
        name (`str`): for example `"base_model.model.bert.pooler.dense.base_layer.weight"`.

    Returns:
        `str`: for example `"bert.pooler.dense.weight"`.
    """
    return _WRAPPER.sub("", name)


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: the module with the first number in its name, or the one below the root."""
    parts = name.removeprefix("base_model.model.").split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    if number is not None and number > 0:
        return ".".join(parts[number - 1 : number + 1])
    return parts[1] if len(parts) > 2 else parts[0]
