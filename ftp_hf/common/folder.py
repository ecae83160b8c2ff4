"""
The names of the files in a run's folder (the `output_dir` of a Trainer) and in a checkpoint's.

What starts with an underscore is not pushed to the Hub (`Trainer.push_to_hub`).
"""

__all__ = ["CARD", "HISTORY", "LOCK", "MANIFEST", "PICTURE", "RESULTS", "STAGING"]

CARD = "README.md"
"""The model card."""

PICTURE = "radii.png"
"""Which the card shows."""

RESULTS = "results.json"
"""The [`RunSummary`] that both are made of, or all that a comparison found."""

HISTORY = "guard.jsonl"
"""What [`RobustnessGuard`] found while the run trained."""

LOCK = "_training.lock"
"""Held by the one process that may write to the folder."""

STAGING = "_saving"
"""Where a checkpoint is until it is whole."""

MANIFEST = "checksums.json"
"""Of a checkpoint: sizes and checksums of its files, written last."""
