"""The files that describe a run, beside its weights: results, picture and card."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftp_hf.common.folder import CARD, PICTURE, RESULTS
from ftp_hf.runs.summary import RunSummary

from .card import write_model_card
from .picture import draw_radii

__all__ = ["surviving", "write_run_files"]

logger = logging.getLogger(__name__)


def write_run_files(summary: RunSummary, folder: Path, *, model_id: str | None = None) -> None:
    """
    Write `results.json`, and what is made of it: the card (`README.md`, see [`model_card`]) and its picture (`radii.png`). Of
    a card that is there already only the generated part is replaced. What cannot be written is logged as an error.
    """
    with surviving(RESULTS):
        summary.save(folder)
        with surviving(PICTURE):
            draw_radii(summary, folder)
        with surviving(CARD):
            write_model_card(summary, folder, model_id=model_id)


@contextmanager
def surviving(file: str) -> Iterator[None]:
    """Log an error that keeps a file from being written: it is no reason to lose a finished run."""
    try:
        yield
    except Exception:
        logger.exception("%s could not be written. The run itself lacks nothing.", file)
