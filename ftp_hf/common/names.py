"""What parameters are called: without wrappers, without adapters, by layer, and by the patterns that name them."""

import functools
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import takewhile

__all__ = ["base_name", "canonical_name", "first_match", "layers_of", "matches"]


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


@functools.lru_cache(maxsize=2**16)
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


def layers_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """
    The layer that each parameter of a model belongs to: the module with the first number in its name, or the one below the
    root. Layers of one name, as an encoder and a decoder have them, are told apart by what they are in.

    Args:
        names (iterable of `str`): for example `["model.encoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.weight"]`.

    Returns:
        `dict[str, tuple[str, str]]`: by these names, the layer (`"encoder.layers.0"`) and what the parameter is called in it
        (`"fc1.weight"`).
    """
    cuts = {name: _cut(name) for name in names}
    stacks: dict[str, list[tuple[str, ...]]] = {}
    for stack, (kind, *_) in dict.fromkeys(cut[:2] for cut in cuts.values()):
        stacks.setdefault(kind, []).append(stack)
    return {
        name: (".".join(_difference(stack, stacks[layer[0]]) + layer), ".".join(rest or layer[-1:]))
        for name, (stack, layer, rest) in cuts.items()
    }


def _cut(name: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The parts of a parameter's name: above its layer, the layer's own, and below it."""
    parts = tuple(name.removeprefix("base_model.model.").split("."))
    root = int(parts[0].isdigit() and len(parts) > 2)  # the modules of sentence-transformers are numbers themselves
    number = next((place for place, part in enumerate(parts) if place > root and part.isdigit()), 0)
    start = number - 1 if number else root + int(len(parts) > root + 2)
    stop = number + 1 if number else start + 1
    return parts[:start], parts[start:stop], parts[stop:]


def _difference(path: tuple[str, ...], paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """A path without the parts that all paths begin with, and those that all then end with."""
    first = _alike(paths)
    last = _alike([each[first:][::-1] for each in paths])
    return path[first : len(path) - last]


def _alike(paths: list[tuple[str, ...]]) -> int:
    """With how many parts all paths begin alike."""
    return sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*paths, strict=False)))
