"""The recorded trajectories of the published method."""

import json
from pathlib import Path

__all__ = ["GOLDEN", "MANIFEST", "TOLERANCE"]

GOLDEN = Path(__file__).parent / "golden"

MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
