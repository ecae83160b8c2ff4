"""What a command prints when it is done, and what the processes of a launcher say before any of them has imported torch."""

import os
import sys
import time

__all__ = ["let_the_first_speak", "say"]

_PATIENCE = 10.0
"""Seconds that other processes wait for the first."""


def let_the_first_speak() -> None:
    """
    Delay an error on every local process but the first. The launcher ends the others when the first fails, so a shared
    error is printed once; what is wrong in one of the others alone is printed after the delay.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_PATIENCE)


def say(*lines: object) -> None:
    """Print the results of a command, each on a line. The command has not failed where nobody reads on, as with `| head`."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        # Python, which flushes it once more when it ends, would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
