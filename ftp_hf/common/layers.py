"""The layers of a model, as the names of its parameters tell them: blocks in a stack, or in the stages of one."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import takewhile
from typing import NamedTuple

__all__ = ["layers_of"]


def layers_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """
    The layer that each parameter of a model belongs to: the module with the first number in its name, or the one below the
    root. Where such modules are stages of similar blocks, as in a Swin or a ResNet, a block is a layer. Layers of one name, as
    an encoder and a decoder have them, are told apart by what they are in.

    Args:
        names (iterable of `str`): for example `["model.encoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.weight"]`.

    Returns:
        `dict[str, tuple[str, str]]`: by these names, the layer (`"encoder.layers.0"`) and what the parameter is called in it
        (`"fc1.weight"`).
    """
    cuts = {name: _cut(name) for name in names}
    at_blocks = _cuts_at_blocks(cuts.values())
    cuts = {name: at_blocks.get(cut, cut) for name, cut in cuts.items()}
    stacks: dict[str, list[tuple[str, ...]]] = {}
    for stack, (kind, *_) in dict.fromkeys((cut.above, cut.layer) for cut in cuts.values()):
        stacks.setdefault(kind, []).append(stack)
    return {
        name: (".".join(_difference(stack, stacks[layer[0]]) + layer), ".".join(below or layer[-1:]))
        for name, (stack, layer, below) in cuts.items()
    }


class _Cut(NamedTuple):
    """The parts of a parameter's name: above its layer, the layer's own, and below it."""

    above: tuple[str, ...]
    layer: tuple[str, ...]
    below: tuple[str, ...]


def _cut(name: str) -> _Cut:
    parts = tuple(name.removeprefix("base_model.model.").split("."))
    root = int(parts[0].isdigit() and len(parts) > 2)  # the modules of sentence-transformers are numbers themselves
    number = next((place for place, part in enumerate(parts) if place > root and part.isdigit()), 0)
    start = number - 1 if number else root + int(len(parts) > root + 2)
    stop = number + 1 if number else start + 1
    return _Cut(parts[:start], parts[start:stop], parts[stop:])


def _cuts_at_blocks(cuts: Collection[_Cut]) -> dict[_Cut, _Cut]:
    """Of the cuts at layers that turn out to be stages, those that go on to the blocks in them."""
    lists: dict[tuple[tuple[str, ...], ...], dict[_Cut, _Cut]] = {}
    for cut in cuts:
        above, layer, below = cut
        number = next((place for place, part in enumerate(below[:2]) if part.isdigit()), None)
        if len(layer) > 1 and number is not None:
            block = _Cut(above, layer + below[: number + 1], below[number + 1 :])
            lists.setdefault((above, layer[:1], below[:number]), {})[cut] = block
    return {cut: block for blocks in lists.values() if _are_layers(blocks, cuts) for cut, block in blocks.items()}


def _are_layers(blocks: Mapping[_Cut, _Cut], cuts: Collection[_Cut]) -> bool:
    """
    Whether the modules with the second number are the layers, and those with the first one stages: they have the same in
    them, as the parts of a layer of T5 or of a Sequential do not, and more than there is beside them, as experts do not.
    """
    stack = {(above, layer[0]) for above, layer, _ in blocks}
    beside = Counter(cut.layer for cut in cuts if (cut.above, cut.layer[0]) in stack and cut not in blocks)
    within: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for block in blocks.values():
        within.setdefault(block.layer, set()).add(block.below)
    shared = set.intersection(*within.values())
    return (
        len(within) > len({cut.layer for cut in blocks})
        and shared in within.values()
        and any(len(below) > 1 for below in shared)
        and len(shared) > max(beside.values(), default=0)
    )


def _difference(path: tuple[str, ...], paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """A path without the parts that all paths begin with, and those that all then end with."""
    first = _alike(paths)
    last = _alike([each[first:][::-1] for each in paths])
    return path[first : len(path) - last]


def _alike(paths: list[tuple[str, ...]]) -> int:
    """How many of their first parts all paths share."""
    return sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*paths, strict=False)))
