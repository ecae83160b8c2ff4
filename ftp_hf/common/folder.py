"""
The names of the files in a run's folder (the `output_dir` of a Trainer) and in a checkpoint's.

What starts with an underscore is not pushed to the Hub (`Trainer.push_to_hub`). Names that transformers gives (5.18 to 5.23)
are spelt here too: asking it for them would load torch where only files are read.
"""

__all__ = [
    "CARD",
    "CHECKPOINT",
    "HISTORY",
    "INCOMPLETE",
    "LOCK",
    "MANIFEST",
    "MODULES",
    "OPTIONS",
    "PICTURE",
    "REPLACED",
    "RESULTS",
    "STAGING",
    "TRAINER_STATE",
]

CARD = "README.md"
"""The model card."""

PICTURE = "radii.png"
"""Which the card shows."""

RESULTS = "results.json"
"""The [`RunSummary`] that both are made of, or all that a comparison found."""

HISTORY = "guard.jsonl"
"""What [`RobustnessGuard`] found while the run trained."""

MODULES = "modules.json"
"""Of a model of sentence-transformers: which module lies in which folder."""

TRAINER_STATE = "trainer_state.json"
"""transformers' `TrainerState`, of a run or of a checkpoint."""

LOCK = "_training.lock"
"""Held by the one process that may write to the folder."""

STAGING = "_saving"
"""Where a model is until it is whole."""

CHECKPOINT = "checkpoint-"
"""What the name of a checkpoint's folder starts with. The step follows."""

REPLACED = "_replaced-"
"""Before the name of a checkpoint that is kept until the one which replaces it is whole."""

OPTIONS = "ftp_options.json"
"""Of a checkpoint: the options of the projection that its run was asked for, and its radii."""

MANIFEST = "checksums.json"
"""Of a checkpoint: sizes and checksums of its files, written last."""

INCOMPLETE = "checkpoint-is-incomplete.txt"
"""In a checkpoint until then. transformers' own just-in-time checkpoints are marked with it (`trainer_jit_checkpoint.py`)."""
