"""Lines of the log that a process writes once, however often there is a reason for them."""

import functools
import logging

__all__ = ["warn_once"]


@functools.cache
def warn_once(logger: logging.Logger, message: str, *args: str) -> None:
    """`logger.warning`, the first time that this process says these words."""
    logger.warning(message, *args)
