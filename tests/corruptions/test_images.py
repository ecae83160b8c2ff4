"""Corruptions of images."""

import itertools

import numpy as np
import pytest
from PIL import Image

from ftp_hf.corruptions import DENSE_IMAGE_CORRUPTIONS, IMAGE_CORRUPTIONS, SEVERITIES, corrupt_image, images
from tests.support.samples import photographs

every_kind = pytest.mark.parametrize("kind", IMAGE_CORRUPTIONS)
DRAWN = {"fog", "gaussian_noise", "impulse_noise", "motion_blur", "shot_noise"}


def array(image):
    return np.asarray(image, dtype=float)


def distances(kind, side):
    """Mean absolute difference to the original in grey levels, by severity."""
    return [
        np.mean(
            [np.abs(array(corrupt_image(image, kind, severity)) - array(image)).mean() for image in photographs(side)]
        )
        for severity in SEVERITIES
    ]


@every_kind
@pytest.mark.parametrize("side", [32, 128])
def test_each_severity_is_further_from_the_original(kind, side):
    measured = distances(kind, side)
    assert measured[0] > 1.0
    assert all(np.diff(measured) > 0), measured
    assert measured[-1] < 100


@every_kind
@pytest.mark.parametrize("side", [8, 28, 32, 80, 224, 640, 4000])
def test_strengths_move_one_way_at_every_size(kind, side):
    strengths = [images._strength(kind, severity, side) for severity in SEVERITIES]
    steps = np.sign(np.diff(strengths))
    assert abs(steps.sum()) == len(SEVERITIES) - 1
    assert min(strengths) > 0


def test_strengths_are_those_of_the_table_at_both_sizes():
    kind = images._KINDS["defocus_blur"]
    for side, (first, last) in ((16, kind.small), (32, kind.small), (224, kind.large)):
        assert images._strength("defocus_blur", 1, side) == pytest.approx(first)
        assert images._strength("defocus_blur", 5, side) == pytest.approx(last)
        assert images._strength("defocus_blur", 3, side) == pytest.approx((first * last) ** 0.5)


@every_kind
def test_only_seed_and_content_decide_what_is_drawn(kind):
    image, other = photographs(32)[:2]
    np.random.seed(1)  # the global generator plays no part
    first = corrupt_image(image, kind, 3)
    corrupt_image(other, kind, 3)
    np.random.seed(2)
    assert first == corrupt_image(image.copy(), kind, 3)
    assert (first != corrupt_image(image, kind, 3, seed=1)) == (kind in DRAWN)


def test_equal_places_are_hit_whatever_the_severity():
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    hit = [array(corrupt_image(grey, "impulse_noise", severity)) != 128 for severity in SEVERITIES]
    for weaker, stronger in itertools.pairwise(hit):
        assert (weaker & ~stronger).sum() == 0
        assert weaker.sum() < stronger.sum()
    noise = [array(corrupt_image(grey, "gaussian_noise", severity)) - 128 for severity in (1, 2)]
    assert np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] > 0.99


def test_noise_has_the_strength_that_is_asked_for():
    grey = Image.new("RGB", (224, 224), (128, 128, 128))
    gaussian, shot, impulse = (
        array(corrupt_image(grey, f"{kind}_noise", 1)) for kind in ("gaussian", "shot", "impulse")
    )
    assert gaussian.std() / 255 == pytest.approx(0.06, rel=0.01)
    assert shot.mean() == pytest.approx(128, rel=0.01)
    assert shot.std() / 255 == pytest.approx((0.5 / 100) ** 0.5, rel=0.01)
    assert (impulse != 128).mean() == pytest.approx(0.02, rel=0.03)
    assert (impulse == 255).sum() == pytest.approx((impulse == 0).sum(), rel=0.1)


def test_a_blurred_point_is_a_disc_or_a_line_as_large_as_is_asked_for():
    point = np.zeros((225, 225, 3), dtype=np.uint8)
    point[110:115, 110:115] = 255  # a point of one pixel would vanish when it is rounded
    blurred = array(corrupt_image(Image.fromarray(point), "defocus_blur", 5))[..., 0]
    y, x = np.nonzero(blurred > 2)
    assert np.hypot(y - 112, x - 112).max() == pytest.approx(9 + 2.5, abs=1)
    assert (y.max() - y.min()) == (x.max() - x.min())
    assert blurred.sum() == pytest.approx(25 * 255, rel=0.05)
    y, x = np.nonzero(array(corrupt_image(Image.fromarray(point), "motion_blur", 5))[..., 0] > 2)
    assert np.hypot(y.max() - y.min(), x.max() - x.min()) == pytest.approx(36 + 5, abs=3)


def spot(shape, y, x, width):
    rows, columns = np.indices(shape)
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))


def moved(kind, severity, side, y, x):
    """How many pixels a bright spot on grey seems to have moved, where it stands out most from what is around it."""
    width, reach = side / 16, side // 8
    grey = 20 + 230 * spot((side, side), y, x, width)
    image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    seen = np.pad(array(corrupt_image(image, kind, severity)).mean(axis=-1), 3 * reach, mode="edge")
    size = 4 * reach + 1
    sharp, wide = (spot((size, size), 2 * reach, 2 * reach, each * width) for each in (1, 2))
    template = sharp / sharp.sum() - wide / wide.sum()
    windows = np.lib.stride_tricks.sliding_window_view(seen, (size, size))
    near = windows[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
    found = np.unravel_index(np.einsum("ijkl,kl->ij", near, template).argmax(), near.shape[:2])
    return max(abs(place - reach) for place in found)


@every_kind
@pytest.mark.parametrize("side", [32, 128])
def test_masks_stay_right_under_what_leaves_everything_where_it_is(kind, side):
    places = [(side // 4, side // 4), (side // 4, 3 * side // 4 + 1), (3 * side // 4 - 2, side // 4 + 3)]
    furthest = max(moved(kind, severity, side, *place) for severity in (1, 5) for place in places)
    if kind in DENSE_IMAGE_CORRUPTIONS:
        assert furthest <= 1
    else:
        assert furthest > side / 64


def test_a_convolution_by_hand():
    pixels = np.arange(12, dtype=float).reshape(3, 4, 1)
    kernel = np.zeros((5, 5))
    kernel[2, 0], kernel[2, 2] = 0.25, 0.75  # a quarter goes two pixels to the left; the image goes on mirrored
    expected = 0.75 * pixels + 0.25 * pixels[:, [2, 3, 3, 2]]
    np.testing.assert_allclose(images._convolve(pixels, kernel), expected, atol=1e-12)


@every_kind
@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA"])
def test_other_modes_are_converted(kind, mode):
    image = photographs(32)[0].convert(mode)
    corrupted = corrupt_image(image, kind, 3)
    assert (corrupted.mode, corrupted.size) == ("RGB", (32, 32))
    assert corrupted == corrupt_image(image.convert("RGB"), kind, 3)
    assert image == photographs(32)[0].convert(mode)


@every_kind
@pytest.mark.parametrize("size", [(1, 1), (3, 90), (57, 31)])
def test_any_size(kind, size):
    image = photographs(128)[0].resize(size)
    for severity in SEVERITIES:
        assert corrupt_image(image, kind, severity).size == size


def test_what_is_refused():
    image = photographs(32)[0]
    with pytest.raises(ValueError, match=r"kind='snow' is no corruption.*brightness, contrast, .*zoom_blur"):
        corrupt_image(image, "snow", 1)
    for severity in (0, 6, 1.5, "1", None):
        with pytest.raises(ValueError, match=r"severity=.* must be a whole number from 1 to 5"):
            corrupt_image(image, "fog", severity)
    with pytest.raises(TypeError, match=r"image must be a PIL\.Image\.Image, got ndarray.*Image\.fromarray"):
        corrupt_image(array(image), "fog", 1)
