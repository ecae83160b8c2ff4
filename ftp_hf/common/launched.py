"""What the processes of a launcher say, before any of them has imported torch."""

import os
import time

__all__ = ["let_the_first_speak"]

_PATIENCE = 10.0
"""Seconds that other processes wait for the first."""


def let_the_first_speak() -> None:
    """
    Of the processes of a launcher on a machine, what is wrong in all of them is said by the first.

    When it ends, so do the others that wait here. What is wrong in one of them alone is said after that time.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_PATIENCE)
