"""Charts as files beside a report."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from ftp_hf.common.files import replacing

from .blocks import Picture
from .style import spots

__all__ = ["CHARTS", "Drawn", "save_charts"]

CHARTS = "charts"

Drawn: TypeAlias = tuple[str, str, str, Figure]
"""A chart: its name, its title, how to read it, and itself."""


def save_charts(drawn: Iterable[Drawn], folder: Path) -> dict[str, Picture]:
    """Write charts to `charts/` in the folder of a report, in place of all earlier ones; return their pictures by name."""
    (folder / CHARTS).mkdir(parents=True, exist_ok=True)
    charts = {}
    for name, title, note, figure in drawn:
        file = folder / CHARTS / f"{re.sub(r'[^a-z0-9-]', '-', name)}.png"
        with replacing(file) as part:
            figure.savefig(part, format="png", dpi=170, metadata={"Software": None})
        charts[name] = Picture(file, title, note, spots(figure))
    kept = {chart.file for chart in charts.values()}
    for file in (folder / CHARTS).glob("*.png"):
        if file not in kept:
            file.unlink()  # an earlier report's picture would be wrong
    return charts
