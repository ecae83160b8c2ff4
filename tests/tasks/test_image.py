"""Images of a data set as a model sees them, and what is refused before anything is trained."""

import io
import shutil

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures
from transformers import (
    ConvNextImageProcessor,
    EfficientNetImageProcessor,
    MobileNetV2ImageProcessor,
    MobileViTImageProcessor,
    ViTImageProcessor,
)

from ftp_hf.corruptions import corruption
from ftp_hf.tasks.image import ImageOptions, ImageTask
from ftp_hf.tasks.specs import DatasetSpec
from tests.support.models import save_mobilenet
from tests.support.samples import photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a model whose processor makes the shorter side 32 pixels, and takes 28 in the middle."""
    folder = save_mobilenet(tmp_path_factory.mktemp("mobilenet"))
    task = ImageTask(str(folder))
    task.processor.size, task.processor.crop_size = {"shortest_edge": 32}, {"height": 28, "width": 28}
    task.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def task(folder):
    return ImageTask(str(folder), labels=["dark", "light"])


def rows(pictures):
    features = Features({"image": Image(), "label": ClassLabel(names=["dark", "light"])})
    return Dataset.from_dict({"image": pictures, "label": [row % 2 for row in range(len(pictures))]}, features)


def jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("side", [None, 16])
def test_photographs_are_what_the_processor_makes_of_them(folder, side, mode):
    task = ImageTask(str(folder), ImageOptions(image_size=side), labels=["dark", "light"])
    pictures = [image.convert(mode) for image in photographs(64)]
    prepared = task.prepare(rows(pictures))
    for row, image in enumerate(pictures):
        expected = task.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(prepared[row]["pixel_values"], expected)


def test_16_bits_of_grey_and_transparency_are_seen(task):
    grey = photographs(64)[0].convert("L")
    deep = Pictures.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    drawing = Pictures.new("RGBA", (64, 64))
    data = rows([grey, deep, drawing, Pictures.new("RGB", (64, 64), "white")])
    task.check("few", data)
    pixels = [row["pixel_values"] for row in task.prepare(data)]
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[2], pixels[3])


@pytest.mark.parametrize(
    "processor",
    [
        MobileNetV2ImageProcessor(),
        MobileNetV2ImageProcessor(size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}),
        MobileViTImageProcessor(),
        ConvNextImageProcessor(),
        EfficientNetImageProcessor(size={"height": 32, "width": 32}),
        ViTImageProcessor(),
        ViTImageProcessor(do_resize=False, size={"height": 16, "width": 16}),
    ],
    ids=["shorter side", "sides and middle", "flipped channels", "share", "twice divided", "sides", "as they are"],
)
def test_images_are_corrupted_at_the_size_that_the_model_sees(folder, tmp_path, processor):
    shutil.copytree(folder, tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    task, sizes = ImageTask(str(tmp_path / "model"), labels=["dark", "light"]), set()
    data = rows([image.resize((300, 400)) for image in photographs(64)[::4]])

    def unchanged(image):
        sizes.add((image.height, image.width))
        return image

    for whole, seen in zip(task.prepare(data), task.prepare(data, corrupt=unchanged), strict=True):
        assert sizes == {tuple(whole["pixel_values"].shape[1:])}
        assert torch.equal(seen["pixel_values"], whole["pixel_values"])


def test_a_severity_means_the_same_for_images_of_any_size(task):
    changes = []
    for side in (64, 256, 512):
        data = rows(
            [image.resize((side * 3 // 2, side), Pictures.Resampling.BICUBIC) for image in photographs(64)[::4]]
        )
        clean, noisy = (
            torch.stack([row["pixel_values"] for row in task.prepare(data, corrupt=corrupt)])
            for corrupt in (None, corruption("gaussian_noise", 5))
        )
        changes.append((clean - noisy).abs().mean().item())
    assert changes == pytest.approx([changes[0]] * 3, rel=0.05)


def test_images_of_a_given_size_are_corrupted_at_it(folder):
    task, noise = ImageTask(str(folder), ImageOptions(image_size=16), labels=["dark", "light"]), corruption("fog", 3)
    for image, row in zip(photographs(64), task.prepare(rows(photographs(64)), corrupt=noise), strict=True):
        seen = noise(image.resize((16, 16), task.processor.resample))
        assert torch.equal(row["pixel_values"], task.processor(seen, return_tensors="pt")["pixel_values"][0])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_may_hold_the_paths_of_images(task, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for row, image in enumerate(photographs(64)[:2]):
        image.save(f"{row}.png")
    paths = ["0.png", str(tmp_path / "1.png")]
    table = Dataset.from_dict({"image": paths, "label": [0, 1]})
    {"csv": table.to_csv, "jsonl": table.to_json, "parquet": table.to_parquet}[kind](f"table.{kind}")
    data = DatasetSpec.parse(str(tmp_path / f"table.{kind}")).numbered()[0]
    task.check("few", data)
    for path, prepared in zip(paths, task.prepare(data), strict=True):
        expected = task.processor(Pictures.open(path), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(prepared["pixel_values"], expected)


def test_a_table_may_hold_the_bytes_of_images(task):
    files = [jpeg(image) for image in photographs(64)[:2]]
    for data in (
        Dataset.from_dict({"image": files, "label": [0, 1]}),
        Dataset.from_dict({"image": [{"bytes": file, "path": None} for file in files], "label": [0, 1]}),
        Dataset.from_dict({"image": files, "label": [0, 1]}).cast_column("image", Image(decode=False)),
    ):
        task.check("few", data)
        assert task.prepare(data)[0]["pixel_values"].shape == (3, 28, 28)


def test_images_that_cannot_be_read_are_named(task, tmp_path):
    whole = jpeg(photographs(64)[0])
    cut, text, deep = tmp_path / "cut.jpg", tmp_path / "text.png", tmp_path / "deep.tiff"
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("no image")
    Pictures.fromarray(np.zeros((4, 4), np.float32)).save(deep)
    for file, problem in [
        (None, "row 1 of few has no image in 'image': add it, or leave the row out"),
        (str(cut), rf"row 1 of few has an image in 'image' \({cut}\) that cannot be read: .*truncated"),
        (cut.read_bytes(), r"row 1 of few has an image in 'image' that cannot be read: .*truncated"),
        (str(text), rf"row 1 of few has an image in 'image' \({text}\) that cannot be read: cannot identify"),
        (str(deep), r"row 1 of few .* cannot be read: an image of the mode F has pixels of 32 bits"),
        ("missing.png", r"row 1 of few .* cannot be read: .*No such file"),
    ]:
        first = whole if isinstance(file, bytes) else str(tmp_path / "whole.jpg")
        (tmp_path / "whole.jpg").write_bytes(whole)
        with pytest.raises(ValueError, match=problem):
            task.check("few", Dataset.from_dict({"image": [first, file], "label": [0, 1]}))


def test_a_column_of_something_else_is_refused(task):
    with pytest.raises(ValueError, match=r"no column 'image' in few .* name it in image_column"):
        task.check("few", Dataset.from_dict({"picture": ["a.png"]}))
    for values, feature in (([1], Value("int64")), ([1.5], Value("float32"))):
        data = Dataset.from_dict({"image": values}, Features({"image": feature}))
        with pytest.raises(ValueError, match=r"'image' holds .*: it must hold files, as bytes or by path"):
            task.check("few", data)
