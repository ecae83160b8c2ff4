"""Sounds as samples, and as the files that columns of a data set hold."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sound", "read_sound", "write_sound"]


class Sound(NamedTuple):
    """What is heard on one channel."""

    samples: NDArray[np.float32]
    """(samples,), from -1 to 1."""
    rate: int
    """Samples a second."""


def read_sound(file: Mapping[str, Any]) -> Sound:
    """
    The sound in a file, with soundfile.

    Args:
        file (mapping): with its `"bytes"`, or if they are `None` its `"path"`, as columns of sounds hold it.

    Returns:
        [`Sound`]: the mean of all channels, in the file's own rate; softer if its peak is beyond 1.

    Raises:
        ImportError: soundfile is not installed.
        soundfile.SoundFileError: it is no file that soundfile reads.
    """
    source = file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"])
    samples, rate = _soundfile().read(source, dtype="float32", always_2d=True)
    mixed = samples.mean(axis=1)
    return Sound(mixed / max(1.0, np.abs(mixed).max(initial=0.0)), rate)


def write_sound(sound: Sound) -> dict[str, Any]:
    """
    A sound as a file: WAV of 32 bits a sample, which [`read_sound`] reads without a loss.

    Args:
        sound ([`Sound`]): to write.

    Returns:
        `dict`: `"bytes"` of the file, and `None` as its `"path"`.
    """
    file = io.BytesIO()
    _soundfile().write(file, sound.samples, sound.rate, format="WAV", subtype="FLOAT")
    return {"bytes": file.getvalue(), "path": None}


def _soundfile() -> Any:
    try:
        import soundfile  # noqa: PLC0415 - only data sets of sounds need it
    except ImportError as error:
        raise ImportError('sounds are read and written with soundfile: pip install "ftp-hf[audio]"') from error
    return soundfile
