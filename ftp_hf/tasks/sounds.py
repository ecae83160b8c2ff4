"""Sounds of a data set as the features that a model hears, in windows no longer than they need."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from datasets import Audio, Dataset
from scipy.signal import resample_poly
from torch import Tensor

from ftp_hf.common.documented import with_help
from ftp_hf.corruptions import AUDIO_CORRUPTIONS, Sound, read_sound

from .files import as_files
from .row_checks import RowError, check_column
from .short_audio import POSITIONS_PER_SECOND
from .whisper_windows import WindowsTask

__all__ = ["Corruption", "Others", "SoundOptions", "SoundTask", "Sounds", "at_rate"]

Corruption = Callable[[Sound], Sound]
Others = Callable[[dict[str, Any]], dict[str, Any]]

_LONGEST = 30
"""Seconds that Whisper hears at a time."""


@with_help
@dataclass
class SoundOptions:
    """
    Args:
        audio_column (`str`, *optional*, defaults to `"audio"`): the column of sounds: files (WAV, FLAC, Ogg, MP3) as bytes
            or by path.
        max_seconds (`float`, *optional*): for Whisper, the window that sounds are heard in, a multiple of 0.02 up to its 30
            seconds, which are the default: 2 seconds cost a fifteenth. A data set with longer sounds is heard in a window
            of whole seconds that its longest fits in, so that nothing is cut.

    Raises:
        ValueError: `max_seconds` is no such multiple.
    """

    audio_column: str = "audio"
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        positions = 1 if self.max_seconds is None else self.max_seconds * POSITIONS_PER_SECOND
        if not 1 <= round(positions) <= _LONGEST * POSITIONS_PER_SECOND or abs(positions - round(positions)) > 1e-6:
            raise ValueError(f"max_seconds must be a multiple of 0.02 up to {_LONGEST}, got {self.max_seconds!r}")


class Sounds:
    """
    What a feature extractor makes of a column of sounds.

    Args:
        extractor (`SequenceFeatureExtractor`): of the model. One with a `chunk_length`, as Whisper's, hears windows of one
            length, any other each sound in its own.
        options ([`SoundOptions`]): how sounds are read.

    Attributes:
        name (`str`): what the model calls its features.

    Raises:
        ValueError: the model has no windows that `max_seconds` could be the length of.
    """

    def __init__(self, extractor: Any, options: SoundOptions) -> None:
        self.extractor, self.options = extractor, options
        self.name: str = extractor.model_input_names[0]
        self._rate: int = extractor.sampling_rate
        self._longest: int | None = getattr(extractor, "chunk_length", None)
        if self._longest is None and options.max_seconds is not None:
            raise ValueError(
                "max_seconds is the length of Whisper's windows, but the model hears each sound in its own"
            )

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raise for a data set whose sounds cannot be read, or not be heard as a whole.

        Raises:
            ValueError: it lacks the column; a row is no sound, has samples that are not finite, or is longer than the longest
                window.
        """
        column = self.options.audio_column
        check_column(name, dataset, column, "audio_column")
        for row, value in enumerate(self.undecoded(dataset)[column]):
            try:
                sound = read_sound(value)
            except (RuntimeError, TypeError) as error:  # of soundfile, or an empty row
                raise RowError(row, f"{name} holds no sound in {column!r}: {error}") from error
            if not len(sound.samples):
                raise RowError(row, f"{name} is a sound without any samples")
            if not np.isfinite(sound.samples).all():
                raise RowError(row, f"{name} has samples in {column!r} that are not finite: make the file again")
            if self._longest is not None and _seconds(sound) > self._longest:
                raise RowError(
                    row,
                    f"{name} takes {_seconds(sound):.1f} seconds, but the model hears {self._longest} at a time: "
                    "cut it into parts, with the text of each",
                )

    def undecoded(self, dataset: Dataset) -> Dataset:
        """The data set with the files of its sounds, which `datasets` needs torchcodec to decode."""
        return as_files(dataset, self.options.audio_column, Audio(decode=False))

    def prepared(
        self,
        dataset: Dataset,
        others: Others,
        corrupt: Corruption | None = None,
    ) -> Dataset:
        """
        A data set as a model reads it, made when a row is read. `others` reads what else the model needs of a batch of rows,
        and `corrupt` changes each sound first.
        """
        column, files = self.options.audio_column, self.undecoded(dataset)

        def heard(file: Mapping[str, Any]) -> Sound:
            sound = at_rate(read_sound(file), self._rate)
            return sound if corrupt is None else corrupt(sound)

        window = self._window(heard(file) for file in files[column])

        def features(file: Mapping[str, Any]) -> Any:
            made = self.extractor(heard(file).samples, sampling_rate=self._rate, return_tensors="np", **window)
            return made[self.name][0]

        def transform(batch: dict[str, Any]) -> dict[str, Any]:
            return {self.name: [features(file) for file in batch[column]], **others(batch)}

        return files.with_transform(transform)

    def pad(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The features of prepared rows as a batch."""
        return dict(self.extractor.pad([{self.name: row[self.name]} for row in rows], return_tensors="pt"))

    def _window(self, sounds: Iterable[Sound]) -> dict[str, int]:
        """What the extractor has to know of the window that all of these sounds are heard in."""
        seconds = self.options.max_seconds
        if self._longest is None or seconds is None:
            return {}
        longest = max(map(_seconds, sounds), default=0.0)
        if longest > seconds:
            seconds = min(math.ceil(longest), self._longest)
        return {"max_length": round(self._rate * seconds)}


Heard = TypeVar("Heard", bound=SoundOptions)


class SoundTask(WindowsTask[Heard]):
    """A task on a column of sounds. A subclass sets `sounds` and says in [`readable`] what else of a row the model reads."""

    file_columns = ("audio_column",)
    input_columns = ("audio_column",)
    corruptions = AUDIO_CORRUPTIONS
    sounds: Sounds

    @property
    def augments(self) -> bool:
        """`False`: where sounds are changed in training, the model does it, if its config says so."""
        return False

    def readable(self, dataset: Dataset) -> tuple[Dataset, Others]:
        """A data set, and what the model reads of a batch of its rows beside the sounds."""
        raise NotImplementedError

    def prepare(self, dataset: Dataset, *, augment: bool = False, corrupt: Corruption | None = None) -> Dataset:
        """As of [`Task`], made when a row is read; sounds are corrupted at the rate of the model."""
        del augment
        return self.sounds.prepared(*self.readable(dataset), corrupt)


def at_rate(sound: Sound, rate: int) -> Sound:
    """A sound resampled to another rate, in samples a second."""
    if sound.rate == rate:
        return sound
    shared = math.gcd(rate, sound.rate)
    samples = resample_poly(sound.samples, rate // shared, sound.rate // shared)
    return Sound(samples.clip(-1, 1).astype(np.float32), rate)


def _seconds(sound: Sound) -> float:
    return len(sound.samples) / sound.rate
