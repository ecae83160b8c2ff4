"""Corruptions of images, with Pillow and NumPy.

Written here because no library on the package index does it: imagecorruptions and its forks (of ImageNet-C's own code)
need OpenCV, scikit-image and numba, draw from NumPy's global generator and are made for 224 px; albumentations is no
longer maintained and its successor is under the AGPL; kornia works on batches of tensors and needs Python 3.11.

A strength is given for a shorter side of 32 px and of 224 px, because the same damage in pixels that a photograph
bears leaves nothing of a thumbnail. In between and beyond it follows the power law through both; below 32 px it is that
of 32 px. The figures mean what they say for images of about the size that the model sees: corrupt after resizing.
"""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from .rgb import to_rgb
from .strength import check_kind, check_severity, generator, geometric

__all__ = ["DENSE_IMAGE_CORRUPTIONS", "IMAGE_CORRUPTIONS", "corrupt_image"]

_Pixels = NDArray[np.floating[Any]]

_SMALL, _LARGE = 32, 224
_FOG_LIGHT = 0.88
_FOG_OCTAVES = 5
_ZOOMS = 16


def corrupt_image(image: Image.Image, kind: str, severity: int, seed: int = 0) -> Image.Image:
    """
    Corrupt an image.

    Args:
        image (`PIL.Image.Image`): of any mode that [`to_rgb`] takes, which converts it.
        kind (`str`): one of `IMAGE_CORRUPTIONS`.
        severity (`int`): 1 (slight) to 5 (hard, but a person still recognises what is there).
        seed (`int`, *optional*, defaults to 0): another seed draws other noise, directions and clouds.

    Returns:
        `PIL.Image.Image`: of the same size, in mode RGB.

    Raises:
        TypeError: `image` is no image of Pillow.
        ValueError: there is no such kind or severity, or [`to_rgb`] refuses the mode.
    """
    check_kind(kind, IMAGE_CORRUPTIONS)
    check_severity(severity)
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"image must be a PIL.Image.Image, got {type(image).__name__}; of an array make one with Image.fromarray()"
        )
    image = to_rgb(image)
    random = generator(seed, kind, str(image.size).encode() + image.tobytes())
    return _KINDS[kind].apply(image, _strength(kind, severity, min(image.size)), random)


class _Kind(NamedTuple):
    """A corruption, and its strength at severities 1 and 5."""

    apply: Callable[[Image.Image, float, np.random.RandomState], Image.Image]
    small: tuple[float, float]
    """For images of 32 px."""
    large: tuple[float, float]
    """For images of 224 px."""


def _strength(kind: str, severity: int, side: int) -> float:
    place = math.log(max(side, _SMALL) / _SMALL) / math.log(_LARGE / _SMALL)
    first, last = (geometric(*ends, place) for ends in zip(_KINDS[kind].small, _KINDS[kind].large, strict=True))
    return geometric(first, last, (severity - 1) / 4)


def _pixels(image: Image.Image) -> _Pixels:
    """(height, width, 3), from 0 to 1."""
    return np.asarray(image, dtype=np.float64) / 255


def _image(pixels: _Pixels) -> Image.Image:
    return Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))


def _gaussian_noise(image: Image.Image, deviation: float, random: np.random.RandomState) -> Image.Image:
    pixels = _pixels(image)
    return _image(pixels + deviation * random.standard_normal(pixels.shape))


def _shot_noise(image: Image.Image, photons: float, random: np.random.RandomState) -> Image.Image:
    """Photons are counted, `photons` of them where the image is white."""
    return _image(random.poisson(photons * _pixels(image)) / photons)


def _impulse_noise(image: Image.Image, share: float, random: np.random.RandomState) -> Image.Image:
    """A share of the values is 0 or 1."""
    pixels = _pixels(image)
    hit = random.random_sample(pixels.shape) < share
    return _image(np.where(hit, random.random_sample(pixels.shape) < 0.5, pixels))


def _defocus_blur(image: Image.Image, radius: float, _: np.random.RandomState) -> Image.Image:
    """A point becomes a disc of `radius` pixels."""
    grid = np.linspace(-radius, radius, 65)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid))
    inside = np.hypot(x, y) <= radius
    return _image(_convolve(_pixels(image), _kernel(y[inside], x[inside])))


def _motion_blur(image: Image.Image, length: float, random: np.random.RandomState) -> Image.Image:
    """A point becomes a line of `length` pixels in a random direction."""
    angle = math.pi * random.random_sample()
    along = np.linspace(-length / 2, length / 2, 513)
    return _image(_convolve(_pixels(image), _kernel(math.sin(angle) * along, math.cos(angle) * along)))


def _zoom_blur(image: Image.Image, zoom: float, _: np.random.RandomState) -> Image.Image:
    """The mean of what the camera sees while it zooms in by `1 + zoom`."""
    width, height = image.size
    margins = [(1 - 1 / factor) / 2 for factor in np.linspace(1, 1 + zoom, _ZOOMS)]
    boxes = [(m * width, m * height, (1 - m) * width, (1 - m) * height) for m in margins]
    zoomed = [_pixels(image.resize(image.size, Image.Resampling.BICUBIC, box=box)) for box in boxes]
    return _image(np.mean(zoomed, axis=0))


def _fog(image: Image.Image, thickness: float, random: np.random.RandomState) -> Image.Image:
    """Light that is scattered into the picture, in clouds between half of `thickness` and all of it."""
    clouds = np.zeros((image.height, image.width))
    for octave in range(1, _FOG_OCTAVES + 1):
        grid = random.random_sample((2**octave, 2**octave)).astype(np.float32)
        clouds += np.asarray(Image.fromarray(grid).resize(image.size, Image.Resampling.BICUBIC)) / 2**octave
    clouds = (clouds - clouds.min()) / (np.ptp(clouds) or 1)
    density = thickness * (1 + clouds[..., None]) / 2
    return _image(_pixels(image) * (1 - density) + _FOG_LIGHT * density)


def _brightness(image: Image.Image, factor: float, _: np.random.RandomState) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _contrast(image: Image.Image, factor: float, _: np.random.RandomState) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _saturate(image: Image.Image, factor: float, _: np.random.RandomState) -> Image.Image:
    """Colours are exaggerated; a grey image stays as it is."""
    return ImageEnhance.Color(image).enhance(factor)


def _jpeg(image: Image.Image, quality: float, _: np.random.RandomState) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=max(1, round(quality)))
    return Image.open(file).convert("RGB")


def _pixelate(image: Image.Image, scale: float, _: np.random.RandomState) -> Image.Image:
    """Shrunk to `scale` of its size, and enlarged again."""
    width, height = (max(1, round(scale * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _kernel(y: _Pixels, x: _Pixels) -> _Pixels:
    """
    A blur that spreads a pixel evenly over points, each shared by the four pixels around it, so that a disc or a line
    of a fraction of a pixel blurs too.

    Args:
        y (`np.ndarray`): vertical distances from the pixel, (points,).
        x (`np.ndarray`): horizontal ones, same shape.

    Returns:
        `np.ndarray`: (2r + 1, 2r + 1), which sums to 1.
    """
    reach = math.ceil(max(np.abs(y).max(), np.abs(x).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    top, left = np.floor(y), np.floor(x)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (1 - np.abs(y - top - row)) * (1 - np.abs(x - left - column))
        np.add.at(kernel, ((top + row + reach).astype(int), (left + column + reach).astype(int)), weight)
    normalised: _Pixels = kernel / kernel.sum()
    return normalised


def _convolve(pixels: _Pixels, kernel: _Pixels) -> _Pixels:
    """Every channel with the kernel; beyond the border the image goes on mirrored."""
    reach = kernel.shape[0] // 2
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[..., None]
    height, width = pixels.shape[:2]
    blurred: _Pixels = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    return blurred[2 * reach :, 2 * reach :][:height, :width]


_KINDS = {
    "brightness": _Kind(_brightness, (1.15, 2.1), (1.15, 2.1)),
    "contrast": _Kind(_contrast, (0.75, 0.2), (0.75, 0.2)),
    "defocus_blur": _Kind(_defocus_blur, (0.5, 1.6), (2, 9)),
    "fog": _Kind(_fog, (0.25, 0.85), (0.25, 0.85)),
    "gaussian_noise": _Kind(_gaussian_noise, (0.03, 0.13), (0.06, 0.32)),
    "impulse_noise": _Kind(_impulse_noise, (0.01, 0.08), (0.02, 0.2)),
    "jpeg": _Kind(_jpeg, (60, 20), (35, 7)),
    "motion_blur": _Kind(_motion_blur, (1.5, 5), (5, 36)),
    "pixelate": _Kind(_pixelate, (0.85, 0.45), (0.5, 0.14)),
    "saturate": _Kind(_saturate, (1.6, 6), (1.6, 6)),
    "shot_noise": _Kind(_shot_noise, (500, 30), (100, 5)),
    "zoom_blur": _Kind(_zoom_blur, (0.06, 0.3), (0.06, 0.3)),
}

IMAGE_CORRUPTIONS = tuple(sorted(_KINDS))
"""The kinds of [`corrupt_image`]."""

DENSE_IMAGE_CORRUPTIONS = tuple(kind for kind in IMAGE_CORRUPTIONS if kind != "zoom_blur")
"""
Those that leave everything where it is, so that masks, boxes and key points stay right: for segmentation and detection.

They change a pixel's value, or spread it evenly around where it is: discs, lines and blocks blur a border, but it stays in
the middle of its blur. `zoom_blur` moves what is shown outwards, a mask would have to follow, and there is no one place
that a pixel has moved to: at severity 5 it is smeared over three tenths of its distance from the centre.
"""
