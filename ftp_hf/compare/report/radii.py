"""The heat map of the learned radii: layers beside each other, the parameters of a layer below each other."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ftp_hf.common.layers import layers_of

from .style import MEDIUM, SMALL, new_figure

__all__ = ["draw_radius_map", "radius_grid"]

# As in the picture of a model card: smaller radii, such as those at the floor, are drawn like the smallest.
_RANGE = 1e-3
_ROW = 0.21
_MOST_COLUMNS = 26


def draw_radius_map(radii: Mapping[str, float]) -> Figure:
    """Draw the radius of each projected parameter, given by name."""
    layers, kinds, grid = radius_grid(radii)
    largest = float(np.nanmax(grid))
    smallest = max(largest * _RANGE, float(np.nanmin(grid)))
    figure = new_figure(1.5 + _ROW * len(kinds))
    axes = figure.add_subplot()
    axes.set_facecolor("#f2f2f2")
    image = axes.pcolormesh(
        np.ma.masked_invalid(np.maximum(grid, smallest)),
        norm=LogNorm(smallest, largest if largest > smallest else 1.01 * smallest),
        cmap="viridis",
        edgecolors="white",
        linewidth=1,
    )
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(kinds)) + 0.5, kinds, fontsize=SMALL)
    every = -(-len(layers) // _MOST_COLUMNS)
    shown = range(0, len(layers), every)
    long = max(len(layers[number]) for number in shown) > 2
    axes.set_xticks(
        [number + 0.5 for number in shown], [layers[number] for number in shown], fontsize=SMALL, rotation=90 * long
    )
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=axes, location="top", aspect=40, pad=0.01, shrink=0.9)
    ticks = [smallest, (smallest * largest) ** 0.5, largest] if largest > smallest else [smallest]
    first, *others = _told_apart(ticks)
    below = "≤ " if float(np.nanmin(grid)) < smallest else ""
    bar.set_ticks(ticks, labels=[f"{below}{first}", *others], fontsize=MEDIUM)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("radius", fontsize=MEDIUM)
    return figure


def radius_grid(radii: Mapping[str, float]) -> tuple[list[str], list[str], np.ndarray]:
    """
    The radii by layer and kind of parameter, both in the order of the model.

    Returns:
        `tuple[list[str], list[str], np.ndarray]`: the layers, the kinds, and an array (kinds, layers) with NaN where a
        layer has no such parameter.
    """
    cells = layers_of(radii)
    layers = list(dict.fromkeys(layer for layer, _ in cells.values()))
    kinds = list(dict.fromkeys(kind for _, kind in cells.values()))
    grid = np.full((len(kinds), len(layers)), np.nan)
    for name, (layer, kind) in cells.items():
        grid[kinds.index(kind), layers.index(layer)] = radii[name]
    return _without_common_name(layers), _shortest(kinds), grid


def _told_apart(values: Sequence[float]) -> list[str]:
    """Different values in as many digits as it takes for their texts to differ."""
    texts = ([f"{value:.{digits}g}" for value in values] for digits in range(1, 17))
    return next((text for text in texts if len(set(text)) == len(text)), [f"{value:.3g}" for value in values])


def _without_common_name(layers: list[str]) -> list[str]:
    """
    `"layer.0"` is `"0"`, `"encoder.layer.0"` `"encoder 0"`, and the block `"layer.0.blocks.1"` of a stage `"0.1"`, where all
    numbered layers are called `"layer"`.
    """
    word = r"[^.\d][^.]*"
    numbered = re.compile(
        rf"(?:(?P<stack>[^.]+(?:\.{word})*?)\.)?(?P<kind>{word})\.(?P<number>\d+)(?:(?:\.{word})?\.(?P<block>\d+))?"
    )
    matches = {layer: match for layer in layers if (match := numbered.fullmatch(layer))}
    if len({match["kind"] for match in matches.values()}) != 1:
        return layers
    return [_short(matches[layer]) if layer in matches else layer for layer in layers]


def _short(layer: re.Match[str]) -> str:
    return " ".join(filter(None, [layer["stack"], ".".join(filter(None, layer.group("number", "block")))]))


def _shortest(kinds: Iterable[str]) -> list[str]:
    """The shortest endings of dotted names that tell them apart, of two parts at least."""
    parts = [kind.split(".") for kind in kinds]
    endings = Counter(tuple(name[-count:]) for name in parts for count in range(1, len(name) + 1))
    return [
        ".".join(next((name[-count:] for count in range(2, len(name)) if endings[tuple(name[-count:])] == 1), name))
        for name in parts
    ]
