"""Progress of trainings on a terminal: one bar with a label, and none of the libraries' own."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from datasets import disable_progress_bars, enable_progress_bars
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers.utils import logging

__all__ = ["make_progress", "quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Without a bar and a report of loaded weights for each model and data set, dozens of them."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the libraries to each other, at each run
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        enable_progress_bars()


def make_progress(console: Console, *, disable: bool = False) -> Progress:
    """
    Bars that are drawn on a terminal only, and with `disable` not even there. Lines that are printed to the console go above
    them.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
        TextColumn("to go"),
        TimeRemainingColumn(),
        console=console,
        disable=disable or not console.is_terminal,
    )
