"""What a data set names, and which rows come of it."""

from pathlib import Path

import pytest
from PIL import Image

from ftp_hf.tasks.specs import DatasetSpec

# folder → the files in it
CLASSES = {"dark": ["1.png", "2.png"], "light": ["1.png", "2.png"]}


def write_images(folder, files):
    for inside, names in files.items():
        (folder / inside).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("RGB", (2, 2)).save(folder / inside / name)


def rows(text):
    dataset = DatasetSpec.parse(str(text)).numbered()[0]
    return [(Path(row["image"].filename).name, dataset.features["label"].names[row["label"]]) for row in dataset]


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        ({"dark": ["train station.png", "2.png"], "light": ["test-1.png", "2.png"]}, ["dark", "light"]),
        ({"car": ["1.png", "2.png"], "train": ["1.png", "2.png"]}, ["car", "train"]),
        ({"home/exam": ["1.png"], "home/test": ["1.png", "2.png"], "away/dev": ["1.png"]}, ["dev", "exam", "test"]),
    ],
)
def test_a_word_that_some_images_have_in_their_names_is_no_split(tmp_path, files, classes):
    write_images(tmp_path, files)
    assert sorted(rows(tmp_path)) == sorted(
        (name, Path(folder).name) for folder, names in files.items() for name in names
    )
    assert sorted({label for _, label in rows(tmp_path)}) == classes


@pytest.mark.parametrize(
    "files",
    [
        {f"{split}/{label}": names for split in ("train", "test", "extra") for label, names in CLASSES.items()},
        {f"my data/{split}_set/{label}": names for split in ("train", "test", "") for label, names in CLASSES.items()},
        {
            label: [f"{split}_{name}" for split in ("train", "test") for name in names]
            for label, names in CLASSES.items()
        },
    ],
)
def test_splits_of_images_are_told_by_their_names(tmp_path, files):
    write_images(tmp_path, files)
    for split in ("train", "test"):
        assert len(rows(f"{tmp_path}#{split}")) == 4
        assert sorted({label for _, label in rows(f"{tmp_path}#{split}")}) == ["dark", "light"]


@pytest.mark.parametrize("card", [False, True])
def test_splits_of_images_are_what_their_metadata_or_the_card_tells(tmp_path, card):
    write_images(tmp_path, {"train": ["1.png", "2.png"], "more": ["1.png"]})
    (tmp_path / "train" / "metadata.csv").write_text("file_name,class\n1.png,a\n2.png,b\n")
    if card:
        (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train/1.png\n---\n")
    assert len(DatasetSpec.parse(str(tmp_path)).numbered()[0]) == (1 if card else 2)
