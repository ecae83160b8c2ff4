"""Images of any mode, as models and corruptions read them."""

import io

import numpy as np
import pytest
from PIL import Image

from ftp_hf.corruptions import corrupt_image, to_rgb
from tests.support.samples import photographs


def stored(image, kind):
    """As a file of an image is read."""
    file = io.BytesIO()
    image.save(file, kind)
    return Image.open(file)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV"])
def test_photographs_of_8_bits_without_transparency_are_what_pillow_makes_of_them(mode):
    for image in photographs(64):
        given = image.convert(mode)
        assert to_rgb(given) == given.convert("RGB")
    for kind in ("JPEG", "PNG") if mode in ("RGB", "L") else ():
        given = stored(photographs(64)[0].convert(mode), kind)
        assert to_rgb(given) == given.convert("RGB")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_of_grey_are_scaled_to_8(kind):
    grey = np.asarray(photographs(64)[0].convert("L"))
    image = stored(Image.fromarray(grey.astype(np.uint16) * 257), kind)
    assert image.mode.startswith("I;16")
    assert np.array_equal(np.asarray(to_rgb(image)), np.repeat(grey[..., None], 3, axis=2))
    assert corrupt_image(image, "fog", 3) == corrupt_image(to_rgb(image), "fog", 3)


def test_big_endian_pixels_are_the_same():
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    image = Image.frombytes("I;16B", (16, 16), ramp.astype(">u2").tobytes())
    assert np.asarray(to_rgb(image))[..., 0].ravel().tolist() == list(range(256))


def test_what_is_transparent_is_white():
    drawing = np.zeros((4, 4, 4), np.uint8)
    drawing[1:3, 1:3, 3] = 255, 128
    shown = np.full((4, 4, 3), 255, np.uint8)
    shown[1:3, 1], shown[1:3, 2] = 0, 127
    rgba = Image.fromarray(drawing)
    for image in (rgba, rgba.convert("LA"), stored(rgba, "PNG")):
        assert np.array_equal(np.asarray(to_rgb(image)), shown)


def test_one_colour_that_stands_for_transparency_is_white():
    pixels = np.array([[[0, 0, 0], [9, 9, 9]]], np.uint8)
    for image, transparent in ((Image.fromarray(pixels), (0, 0, 0)), (Image.fromarray(pixels[..., 0]), 0)):
        file = io.BytesIO()
        image.save(file, "PNG", transparency=transparent)
        assert np.asarray(to_rgb(Image.open(file))).tolist() == [[[255] * 3, [9] * 3]]


def test_an_opaque_image_with_an_alpha_channel_keeps_its_colours():
    for image in photographs(64):
        assert to_rgb(image.convert("RGBA")) == image


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32)])
def test_images_of_32_bits_are_refused(pixels):
    for read in (to_rgb, lambda image: corrupt_image(image, "fog", 1)):
        with pytest.raises(ValueError, match=r"has pixels of 32 bits, .* save it with 8 bits a channel"):
            read(Image.fromarray(pixels))
