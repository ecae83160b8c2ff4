"""Finished runs are not taken for runs of data, or of a model, that have changed since."""

import dataclasses
import json
import os
import re
import shutil

import pytest
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file, save_file

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.sources import check_sources
from ftp_hf.tasks import TASKS, task_class
from tests.support.damage import DAMAGED
from tests.support.tiny_data import image_config, write_config


@pytest.fixture
def config(images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    return ComparisonConfig.load(write_config(tmp_path, image_config(folder, seeds=[0], methods=["plain"])))


def add_a_row(file):
    data = Dataset.from_parquet(str(file))
    data.select([*range(len(data)), 0]).to_parquet(file)


@pytest.mark.parametrize("name", ["train", "validation", "test", "pale"])
def test_changed_data_are_refused(name, config, tmp_path):
    file = tmp_path / "images" / f"{name}.parquet"
    check_sources([config], tmp_path / "out")
    os.utime(file)
    check_sources([config], tmp_path / "out")
    add_a_row(file)
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(file))}: not what it was when the first runs in .*output_dir"
    ):
        check_sources([config], tmp_path / "out")
    check_sources([config], tmp_path / "another")


def test_other_weights_under_the_name_of_the_model_are_refused(config, tmp_path):
    check_sources([config], tmp_path / "out")
    file = tmp_path / "images" / "model" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"images/model: not what it was"):
        check_sources([config], tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_another_config_or_processor_of_the_model_is_refused(name, config, tmp_path):
    model = tmp_path / "images" / "model"
    check_sources([config], tmp_path / "out")
    (model / "README.md").write_text("Of our own.")
    (model / "results.json").write_text("{}")
    check_sources([config], tmp_path / "out")
    (model / name).write_text((model / name).read_text().replace("8", "16"))
    with pytest.raises(ValueError, match=r"images/model: not what it was"):
        check_sources([config], tmp_path / "out")


def test_of_a_folder_of_data_the_contents_count(images, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    content = image_config(images, ood=[str(data)], seeds=[0], methods=["plain"])
    config = ComparisonConfig.load(write_config(tmp_path, content))
    (data / "rows.csv").write_text("text,label\ngood,0\nbad,1\n")
    check_sources([config], tmp_path / "out")
    (data / ".DS_Store").touch()
    check_sources([config], tmp_path / "out")
    (data / "rows.csv").write_text("text,label\ngood,1\nbad,0\n")  # as long as it was
    with pytest.raises(ValueError, match=r"data: not what it was"):
        check_sources([config], tmp_path / "out")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_files_that_a_table_names_count(kind, images, tmp_path):
    pictures = [tmp_path / f"{name}.png" for name in ("one", "two", "other", "absent")]
    for file in pictures[:3]:
        file.write_bytes(file.name.encode())
    table = Dataset.from_dict({"image": [*map(str, pictures[:2]), str(pictures[3]), None], "label": [0, 1, 1, 0]})
    getattr(table, f"to_{kind}")(tmp_path / f"rows.{kind}")
    # What is embedded is in the table, wherever it once was.
    held = [{"bytes": b"one", "path": str(pictures[2])}, {"bytes": b"two", "path": None}]
    Dataset.from_dict({"image": held, "label": [0, 1]}).to_parquet(tmp_path / "held.parquet")
    content = image_config(
        images, ood=[f"{tmp_path}/rows.{kind}?label=0", f"{tmp_path}/held.parquet"], seeds=[0], methods=["plain"]
    )
    config = ComparisonConfig.load(write_config(tmp_path, content))
    check_sources([config], tmp_path / "out")
    pictures[2].write_bytes(b"changed")
    os.utime(pictures[0])
    check_sources([config], tmp_path / "out")
    notes = tmp_path / "out" / "sources.json"
    earlier = {source: contents for source, contents in json.loads(notes.read_text()).items() if "files" not in source}
    pictures[1].write_bytes(b"owt.png")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/rows\.{kind} \(the files in 'image'\): not what it was"):
        check_sources([config], tmp_path / "out")
    notes.write_text(json.dumps(earlier))
    check_sources([config], tmp_path / "out")
    assert earlier.items() < json.loads(notes.read_text()).items()


@pytest.mark.parametrize("task", TASKS)
def test_tasks_say_which_columns_hold_files(task):
    kind = task_class(task)
    options = [option.name for option in dataclasses.fields(kind.options_class)]
    assert {*kind.file_columns} == {"image_column", "mask_column", "audio_column"}.intersection(options)


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_notes_are_named(content, config, tmp_path):
    check_sources([config], tmp_path / "out")
    notes = tmp_path / "out" / "sources.json"
    notes.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{notes} is damaged: .+; delete it, if no data"):
        check_sources([config], tmp_path / "out")
    notes.unlink()
    check_sources([config], tmp_path / "out")


def test_notes_of_another_form_are_made_anew(config, tmp_path):
    check_sources([config], tmp_path / "out")
    notes = tmp_path / "out" / "sources.json"
    now = json.loads(notes.read_text())
    notes.write_text(json.dumps({source: {"train.parquet": 24} for source in now}))
    check_sources([config], tmp_path / "out")
    assert json.loads(notes.read_text()) == now


def test_what_is_named_later_is_noted_then(config, tmp_path):
    folder = tmp_path / "images"
    later = image_config(folder, seeds=[0], methods=["plain"], retained=[f"{folder}/more.parquet"])
    shutil.copy(folder / "pale.parquet", folder / "more.parquet")
    check_sources([config], tmp_path / "out")
    config = ComparisonConfig.load(write_config(tmp_path, later))
    check_sources([config], tmp_path / "out")
    add_a_row(folder / "more.parquet")
    with pytest.raises(ValueError, match=r"more\.parquet: not what it was"):
        check_sources([config], tmp_path / "out")


def test_nothing_is_noted_of_data_that_cannot_be_read(images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    for row, pixels in enumerate((40, 200)):
        (folder / "far" / f"class{row}").mkdir(parents=True)
        Image.new("RGB", (8, 8), (pixels,) * 3).save(folder / "far" / f"class{row}" / "0.png")
    broken = folder / "far" / "class1" / "0.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    content = image_config(
        folder, ood=[f"{folder}/far"], label_aliases=["class0=dark", "class1=light"], seeds=[0], methods=["plain"]
    )
    config = ComparisonConfig.load(write_config(tmp_path, content))
    with pytest.raises(
        ValueError, match=rf"^ood: row 1 of data set 'far' has an image in 'image' \({broken}\) that cannot"
    ):
        compare(config, tmp_path / "out")
    assert not (tmp_path / "out" / "sources.json").exists()


@pytest.mark.slow
def test_a_comparison_does_not_go_on_with_other_data(config, tmp_path):
    compare(config, tmp_path / "out")
    results = (tmp_path / "out" / "results.json").read_bytes()
    add_a_row(tmp_path / "images" / "train.parquet")
    with pytest.raises(ValueError, match=r"train\.parquet: not what it was"):
        compare(config, tmp_path / "out")
    assert (tmp_path / "out" / "results.json").read_bytes() == results
