"""
Real handwritten digits and shifted versions of them, as data sets for image classification.

    python examples/digits/data.py OUT_DIR

scikit-learn carries 1,797 digits of 8x8 grey values (`sklearn.datasets.load_digits`, the test part of UCI's "Optical
Recognition of Handwritten Digits"). They are split once, with the same share of every digit in each part:

| part        | images | for                                             |
| ----------- | ------ | ----------------------------------------------- |
| pretraining |    797 | `pretrain.py` only; not written to `OUT_DIR`    |
| train       |    200 | fine-tuning                                     |
| validation  |    200 | choosing hyper-parameters                       |
| test        |    600 | accuracy in distribution and under every shift  |

`OUT_DIR` gets `train.parquet`, `validation.parquet`, `test.parquet`, all of clean digits, and for each shift in
`SHIFTS` an `ood_<name>.parquet` with the test digits so shifted. Columns: `image` (32x32 RGB) and `label` ("0" to "9").
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, disable_progress_bars
from datasets import Image as ImageFeature
from numpy.random import Generator, default_rng
from PIL import Image, ImageChops, ImageFilter, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

LABELS = [str(digit) for digit in range(10)]
SIZE = 32
SPLIT_SIZES = {"pretraining": 797, "train": 200, "validation": 200, "test": 600}

Shift = Callable[[Image.Image, Generator], Image.Image]


def load_split(split: str) -> tuple[list[Image.Image], list[int]]:
    """
    The clean images and the labels of one part of the digits.

    Args:
        split (`str`): a key of `SPLIT_SIZES`.

    Returns:
        `tuple[list[Image.Image], list[int]]`: 32x32 greyscale images, white ink on black, and the digits they show.
    """
    pixels, labels = load_digits(return_X_y=True)
    rest = np.arange(len(labels))
    parts = {}
    for name, size in SPLIT_SIZES.items():
        if size == len(rest):
            parts[name] = rest
        else:
            parts[name], rest = train_test_split(rest, train_size=size, stratify=labels[rest], random_state=0)
    return [_draw(pixels[index]) for index in parts[split]], labels[parts[split]].tolist()


def rotate(image: Image.Image, rng: Generator) -> Image.Image:
    """Turn by 20 to 40 degrees, either way."""
    return image.rotate(rng.choice([-1, 1]) * rng.uniform(20, 40), Image.Resampling.BILINEAR)


def thicken(image: Image.Image, rng: Generator) -> Image.Image:  # noqa: ARG001
    """Draw with a broad pen."""
    return image.filter(ImageFilter.MaxFilter(5))


def blur(image: Image.Image, rng: Generator) -> Image.Image:
    """Put out of focus."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 2.5)))


def add_noise(image: Image.Image, rng: Generator) -> Image.Image:
    """Add Gaussian noise to every pixel."""
    values = np.asarray(image) + 255 * rng.uniform(0.3, 0.6) * rng.standard_normal(image.size)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def texture(image: Image.Image, rng: Generator) -> Image.Image:
    """Write on a blotchy background."""
    blotches = Image.fromarray(rng.integers(0, 160, (8, 8), dtype=np.uint8)).resize(
        image.size, Image.Resampling.BICUBIC
    )
    return ImageChops.lighter(image, blotches)


def invert(image: Image.Image, rng: Generator) -> Image.Image:  # noqa: ARG001
    """Swap ink and paper."""
    return ImageOps.invert(image)


def occlude(image: Image.Image, rng: Generator) -> Image.Image:
    """Hide a square of a third of the width behind a grey patch."""
    side = SIZE // 3
    left, top = (int(value) for value in rng.integers(4, SIZE - 4 - side, 2))
    occluded = image.copy()
    occluded.paste(128, (left, top, left + side, top + side))
    return occluded


SHIFTS: dict[str, Shift] = {
    "rotation": rotate,
    "thick": thicken,
    "blur": blur,
    "noise": add_noise,
    "texture": texture,
    "inverted": invert,
    "occlusion": occlude,
}


def to_dataset(images: list[Image.Image], labels: list[int]) -> Dataset:
    """The images as RGB, which is what pre-trained vision models read, with their labels."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=LABELS)})
    return Dataset.from_dict({"image": [image.convert("RGB") for image in images], "label": labels}, features)


def main(out_dir: Path) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        to_dataset(*load_split(split)).to_parquet(out_dir / f"{split}.parquet")
    images, labels = load_split("test")
    for number, (name, shift) in enumerate(SHIFTS.items()):
        rng = default_rng(number)
        to_dataset([shift(image, rng) for image in images], labels).to_parquet(out_dir / f"ood_{name}.parquet")


def _draw(pixels: np.ndarray) -> Image.Image:
    digit = Image.fromarray((pixels.reshape(8, 8) * (255 / 16)).astype(np.uint8))
    # The margin leaves room to turn the digit within the image.
    return ImageOps.expand(digit.resize((SIZE - 8, SIZE - 8), Image.Resampling.BICUBIC), border=4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the digits and their shifted versions as Parquet files.")
    parser.add_argument("out_dir", type=Path)
    disable_progress_bars()
    main(parser.parse_args().out_dir)
