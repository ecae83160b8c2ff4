"""The picture of a model card: the radii, layer by layer."""

import statistics
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftp_hf.common.folder import PICTURE
from ftp_hf.common.layers import layers_of
from ftp_hf.runs.summary import RunSummary

__all__ = ["draw_radii"]


# Wide enough for a column of text; the lettering is as large on a phone as the text beside it.
_WIDTH, _ROW, _FONT = 5.2, 0.3, 13
_RANGE = 1e-3


def draw_radii(summary: RunSummary, folder: str | Path) -> Path | None:
    """
    Draw `radii.png`: the radius of each projected parameter and the median of each layer.

    Args:
        summary ([`RunSummary`]): with radii.
        folder (`str` or `Path`): where the picture goes.

    Returns:
        `Path` or `None`: `None`, and no picture is left there, without radii or without matplotlib
        (`pip install "ftp-hf[demo]"`).
    """
    file = Path(folder) / PICTURE
    if summary.projection is None or not summary.projection.radii or find_spec("matplotlib") is None:
        # An earlier run's picture would be wrong.
        file.unlink(missing_ok=True)
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    _chart(by_layer(summary)).savefig(file, dpi=150, metadata={"Software": None})
    return file


def by_layer(summary: RunSummary) -> dict[str, list[float]]:
    """The radii of each layer, in the order of the model."""
    layers: dict[str, list[float]] = {}
    radii = summary.projection.radii if summary.projection else {}
    for name, (layer, _) in layers_of(radii).items():
        layers.setdefault(layer, []).append(radii[name].radius)
    return layers


def _chart(layers: dict[str, list[float]]) -> Any:
    # matplotlib is optional.
    from matplotlib.figure import Figure  # noqa: PLC0415

    largest = max(radius for radii in layers.values() for radius in radii)
    left = max(largest * _RANGE, 1e-30)
    figure = Figure(figsize=(_WIDTH, 1.2 + _ROW * len(layers)), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for row, radii in enumerate(layers.values()):
        shown = [max(radius, left) for radius in radii]
        axes.plot(shown, [row] * len(shown), "o", color="#3b75af", alpha=0.55, markersize=7, markeredgewidth=0)
        axes.plot([statistics.median(shown)], [row], "|", color="#c23b22", markersize=17, markeredgewidth=3)
    axes.set_yticks(range(len(layers)), list(layers), fontsize=_FONT)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(left / 1.3, largest * 1.5)
    # The smallest mark stands for all that is smaller, such as radii at the floor.
    ticks = [left, left / _RANGE**0.5, largest]
    axes.set_xticks(ticks, [f"≤ {ticks[0]:.1g}", *(f"{tick:.1g}" for tick in ticks[1:])], fontsize=_FONT)
    axes.minorticks_off()
    figure.supxlabel("radius of each tensor; red: median", fontsize=_FONT)
    axes.grid(axis="both", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
