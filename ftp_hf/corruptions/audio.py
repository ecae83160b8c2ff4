"""Corruptions of sounds, with SciPy: what rooms, microphones, lines and recorders do to speech.

Written here because no library on the package index does it as it has to be done here: audiomentations and
torch-audiomentations draw from global generators, and take noises and rooms from recordings that are to be downloaded.

A strength is relative to the sound: noise to its power, clipping and quantisation to its peak. So silence stays silence,
and a soft recording is hit as hard as a loud one. Where something is added, the whole becomes softer rather than cut at
-1 and 1. At the rate that the model hears, the band is what the model hears of it: corrupt after resampling.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sounds import Sound
from .strength import check_kind, check_severity, generator, geometric

__all__ = ["AUDIO_CORRUPTIONS", "corrupt_audio"]

_Samples = NDArray[np.floating[Any]]

_LOWEST_RATE = 4000
_TALKERS = 6
_DIRECT_SECONDS = 0.4
"""A room with this reverberation time gives back as much as is heard directly."""
_PACKET_SECONDS = 0.02
_TELEPHONE_BOTTOM = 300.0
_MU = 255
_FRAME_SECONDS = 0.032


def corrupt_audio(sound: Sound, kind: str, severity: int, seed: int = 0) -> Sound:
    """
    Corrupt a sound.

    Args:
        sound ([`Sound`]): samples (n,), float, from -1 to 1, at a rate of at least 4,000 a second.
        kind (`str`): one of `AUDIO_CORRUPTIONS`.
        severity (`int`): 1 (slight) to 5 (hard, but a person still understands what is said).
        seed (`int`, *optional*, defaults to 0): another seed draws other noises, rooms, directions and losses.

    Returns:
        [`Sound`]: at the same rate, float32, from -1 to 1, and of the same length, except for `speed`.

    Raises:
        ImportError: SciPy is not installed.
        TypeError: `sound` is no [`Sound`] of floats.
        ValueError: there is no such kind or severity; the samples have several dimensions or are not from -1 to 1, or
            there are fewer than 4,000 a second.
    """
    check_kind(kind, AUDIO_CORRUPTIONS)
    check_severity(severity)
    samples = _checked(sound)
    if not samples.any():
        return Sound(samples, sound.rate)
    random = generator(seed, kind, f"{sound.rate} ".encode() + samples.tobytes())
    corrupt, first, last = _KINDS[kind]
    corrupted = corrupt(samples.astype(np.float64), sound.rate, geometric(first, last, (severity - 1) / 4), random)
    softened = corrupted / max(1.0, np.abs(corrupted).max())
    return Sound(softened.astype(np.float32), sound.rate)


class _Kind(NamedTuple):
    """A corruption, and its strength at severities 1 and 5."""

    corrupt: Callable[[_Samples, int, float, np.random.RandomState], _Samples]
    first: float
    last: float


def _checked(sound: Sound) -> NDArray[np.float32]:
    """The samples, little-endian and in one piece, so that equal sounds have equal bytes."""
    if not isinstance(sound, Sound):
        raise TypeError(
            f"sound must be a Sound(samples, rate), got {type(sound).__name__}; read_sound makes one of a file"
        )
    samples = np.asarray(sound.samples)
    if samples.dtype.kind != "f":
        raise TypeError(f"samples must be floats from -1 to 1, got {samples.dtype}")
    if samples.ndim != 1:
        raise ValueError(f"samples must have one dimension, one channel, got the shape {samples.shape}")
    if samples.size and not np.abs(samples).max() <= 1:
        raise ValueError("samples must be from -1 to 1: divide them by their peak")
    if sound.rate < _LOWEST_RATE:
        raise ValueError(f"rate={sound.rate} must be at least {_LOWEST_RATE} samples a second")
    return np.ascontiguousarray(samples, dtype="<f4")


def _signal() -> ModuleType:
    try:
        from scipy import signal  # noqa: PLC0415 - images and texts do without
    except ImportError as error:
        raise ImportError('sounds are corrupted with SciPy: pip install "ftp-hf[audio]"') from error
    return signal  # type: ignore[no-any-return]


def _with_noise(samples: _Samples, noise: _Samples, ratio: float) -> _Samples:
    """`ratio` is that of the amplitudes: 0.1 is a signal-to-noise ratio of 20 dB, 1 of 0 dB."""
    power = np.sqrt(np.mean(noise**2))
    return samples + noise * (ratio * np.sqrt(np.mean(samples**2)) / power if power else 0.0)


def _white_noise(samples: _Samples, _: int, ratio: float, random: np.random.RandomState) -> _Samples:
    return _with_noise(samples, random.standard_normal(len(samples)), ratio)


def _pink_noise(samples: _Samples, _: int, ratio: float, random: np.random.RandomState) -> _Samples:
    """Equal power in every octave, as of wind, rain and traffic."""
    spectrum = np.fft.rfft(
        random.standard_normal(2 ** math.ceil(math.log2(len(samples) + 1)))
    )  # of a length that is fast
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    return _with_noise(samples, pink[: len(samples)], ratio)


def _babble(samples: _Samples, _: int, ratio: float, random: np.random.RandomState) -> _Samples:
    """Other talkers at once: the sound itself backwards, several times, each from another place on."""
    places = (random.random_sample(_TALKERS) * len(samples)).astype(int)
    return _with_noise(samples, np.sum([np.roll(samples[::-1], place) for place in places], axis=0), ratio)


def _clipping(samples: _Samples, _: int, gain: float, __: np.random.RandomState) -> _Samples:
    """`gain` times as loud as what the recorder takes."""
    peak = np.abs(samples).max()
    clipped: _Samples = np.clip(gain * samples, -peak, peak)
    return clipped


def _telephone(samples: _Samples, rate: int, top: float, _: np.random.RandomState) -> _Samples:
    """Nothing below 300 Hz, nothing above `top` Hz; forwards and backwards, so that nothing is late."""
    band = (_TELEPHONE_BOTTOM, min(top, 0.45 * rate))
    sections = _signal().butter(4, band, "bandpass", fs=rate, output="sos")
    for _direction in range(2):
        samples = _signal().sosfilt(sections, samples)[::-1]
    return samples


def _quantisation(samples: _Samples, _: int, steps: float, __: np.random.RandomState) -> _Samples:
    """μ-law codes, `steps` on either side of zero."""
    peak = np.abs(samples).max()
    coded = np.sign(samples) * np.log1p(_MU * np.abs(samples) / peak) / np.log1p(_MU)
    rounded = np.rint(coded * steps) / steps
    decoded: _Samples = np.sign(rounded) * peak * np.expm1(np.abs(rounded) * np.log1p(_MU)) / _MU
    return decoded


def _reverberation(samples: _Samples, rate: int, seconds: float, random: np.random.RandomState) -> _Samples:
    """A room in which sound decays by 60 dB in `seconds`; the longer, the more of it is in the room."""
    time = np.arange(1, math.ceil(seconds * rate)) / rate
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail *= np.sqrt(seconds / _DIRECT_SECONDS / np.sum(tail**2))
    heard: _Samples = _signal().fftconvolve(samples, np.concatenate([[1.0], tail]))
    return heard[: len(samples)]


def _packet_loss(samples: _Samples, rate: int, share: float, random: np.random.RandomState) -> _Samples:
    """A share of the pieces of 20 ms is silent; at least one, and never all."""
    size = round(_PACKET_SECONDS * rate)
    count = math.ceil(len(samples) / size)
    heard = np.ones(count, dtype=bool)
    heard[random.permutation(count)[: min(max(1, round(share * count)), count - 1)]] = False
    left: _Samples = samples * np.repeat(heard, size)[: len(samples)]
    return left


def _speed(samples: _Samples, _: int, factor: float, random: np.random.RandomState) -> _Samples:
    """Faster and higher, or slower and lower."""
    return _played(samples, _either_way(factor, random))


def _pitch(samples: _Samples, rate: int, factor: float, random: np.random.RandomState) -> _Samples:
    """Higher or lower, at the same speed."""
    factor = _either_way(factor, random)
    changed = _played(_stretched(samples, rate, factor), factor)[: len(samples)]
    return np.pad(changed, (0, len(samples) - len(changed)))


def _either_way(factor: float, random: np.random.RandomState) -> float:
    return factor if random.random_sample() < 0.5 else 1 / factor


def _played(samples: _Samples, factor: float) -> _Samples:
    """`factor` times as fast."""
    ratio = Fraction(factor).limit_denominator(100)
    played: _Samples = _signal().resample_poly(samples, ratio.denominator, ratio.numerator)
    return played


def _stretched(samples: _Samples, rate: int, factor: float) -> _Samples:
    """`factor` times as long at the same pitch: a phase vocoder (Flanagan and Golden 1966)."""
    size = 2 ** round(math.log2(_FRAME_SECONDS * rate))
    window = {"nperseg": size, "noverlap": size - size // 4}
    *_, spectrum = _signal().stft(np.pad(samples, (0, max(0, size - len(samples)))), **window)
    places = np.arange(0, spectrum.shape[1] - 1, 1 / factor)
    whole, part = places.astype(int), places % 1
    loudness = (1 - part) * np.abs(spectrum[:, whole]) + part * np.abs(spectrum[:, whole + 1])
    # From frame to frame a phase goes on by as much as it does in the sound, however fast frames follow on each other.
    steps = np.angle(spectrum[:, whole + 1]) - np.angle(spectrum[:, whole])
    phase = np.angle(spectrum[:, :1]) + np.cumsum(steps, axis=1) - steps
    stretched: _Samples = _signal().istft(loudness * np.exp(1j * phase), **window)[1]
    return stretched[: math.ceil(factor * len(samples))]


_KINDS = {
    "babble": _Kind(_babble, 0.1, 0.7),
    "clipping": _Kind(_clipping, 2.0, 20.0),
    "packet_loss": _Kind(_packet_loss, 0.05, 0.4),
    "pink_noise": _Kind(_pink_noise, 0.1, 1.0),
    "pitch": _Kind(_pitch, 1.06, 1.5),
    "quantisation": _Kind(_quantisation, 32.0, 2.0),
    "reverberation": _Kind(_reverberation, 0.1, 1.6),
    "speed": _Kind(_speed, 1.08, 1.6),
    "telephone": _Kind(_telephone, 3400.0, 1300.0),
    "white_noise": _Kind(_white_noise, 0.1, 1.0),
}

AUDIO_CORRUPTIONS = tuple(sorted(_KINDS))
"""The kinds of [`corrupt_audio`]."""
