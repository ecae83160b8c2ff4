"""What parameters are called: without wrappers, without adapters, and by the patterns that name them."""

import functools
import re
from fnmatch import fnmatchcase

__all__ = ["base_name", "canonical_name", "first_match", "matches"]


_WRAPPER = re.compile(
    r"^base_model\.(model\.)?|\.(base_layer|original_module|token_adapter|modules_to_save\.[^.]+)(?=\.|$)"
)


def canonical_name(name: str) -> str:
    """
    A parameter's name without what wrappers add to it: `module.` at the start (DDP), `_orig_mod.` anywhere (`torch.compile`, of
    the model or of one of its layers). `"module.bert._orig_mod.embeddings.weight"` is `"bert.embeddings.weight"`.
    """
    return name.replace("_orig_mod.", "").removeprefix("module.")


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a parameter goes by one of the names or glob patterns, with or without wrapper prefixes."""
    return first_match(name, patterns) is not None


@functools.lru_cache(maxsize=2**16)
def first_match(name: str, patterns: tuple[str, ...]) -> str | None:
    """The first of the names or glob patterns that a parameter goes by, with or without wrapper prefixes."""
    candidates = (name, canonical_name(name))
    return next((pattern for pattern in patterns if any(fnmatchcase(it, pattern) for it in candidates)), None)


def base_name(name: str) -> str:
    """
    The name in the model without adapters of a parameter of a model with them.
    `"base_model.model.bert.pooler.dense.base_layer.weight"` is `"bert.pooler.dense.weight"`.
    """
    return _WRAPPER.sub("", name)
