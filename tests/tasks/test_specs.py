"""What a data set names, and which rows come of it."""

import os
from pathlib import Path

import pytest
from PIL import Image

from ftp_hf.tasks import DataOptions, TaskData
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


@pytest.mark.parametrize("name", ["data[1].csv", "d*.csv", "a[1]/DATA.CSV"])
def test_a_path_is_no_pattern(tmp_path, monkeypatch, name):
    for file, text in ((name, "mine"), ("data1.csv", "other"), ("a1/data.csv", "other")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"text\n{text}\n")
    monkeypatch.chdir((tmp_path / name).parent)
    for path in (tmp_path / name, (tmp_path / name).name):
        assert DatasetSpec.parse(str(path)).numbered()[0]["text"][:] == ["mine"]


@pytest.mark.parametrize("named", ["", "mine="])
@pytest.mark.parametrize("path", ["a#b/data.csv", "a:b/data.csv", "what?.csv", "year=2024/data.csv"])
def test_a_path_that_exists_is_taken_whole(tmp_path, monkeypatch, named, path):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("text\nfilm\n")
    monkeypatch.chdir(tmp_path)
    for place in (f"{tmp_path}/{path}", path):
        spec = DatasetSpec.parse(f"{named}{place}")
        assert spec.name == (named.strip("=") or Path(path).stem)
        assert spec.numbered()[0]["text"][:] == ["film"]


def test_a_value_may_be_longer_than_a_name_of_a_file():
    assert DatasetSpec.parse(f"data.csv?text={'y' * 300}").value == "y" * 300


def test_a_file_is_read_anew_whatever_its_time(tmp_path):
    file = tmp_path / "data.csv"
    for text in ("film", "song"):
        file.write_text(f"text\n{text}\n")
        os.utime(file, (0, 0))
        assert DatasetSpec.parse(str(file)).numbered()[0]["text"][:] == [text]


@pytest.mark.parametrize("cache", ["a.csv", "a.csv/in/the/way"])
def test_a_cache_that_cannot_be_written_is_no_fault_of_the_data(tmp_path, monkeypatch, cache):
    (tmp_path / "a.csv").write_text("text\nfine\n")
    (tmp_path / "b.csv").write_text("text\nfine\n")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / cache)
    with pytest.raises(
        OSError, match=r"^the cache of datasets cannot be written: .*/a\.csv.*\. Set HF_HOME to a folder"
    ):
        DatasetSpec.parse(str(tmp_path / "b.csv")).numbered()


def test_a_folder_that_would_be_taken_for_a_pattern_is_refused(tmp_path, monkeypatch):
    write_images(tmp_path / "a[1]" / "photos", CLASSES)
    monkeypatch.chdir(tmp_path / "a[1]")
    with pytest.raises(ValueError, match=r"a\[1\]/photos is taken for a pattern: rename the folder, without any of"):
        DatasetSpec.parse("photos").numbered()


def load(folder, *rows, header="text,label"):
    file = folder / "train.csv"
    file.write_text("\n".join([header, *rows, ""]))
    return TaskData.load(DataOptions(str(file), str(file)))


@pytest.mark.parametrize("rows", [["well, a film,good", "oh, a film,bad"], ["a film,good,", "a film,bad,"]])
def test_rows_with_more_values_than_columns_are_refused(tmp_path, rows):
    with pytest.raises(
        ValueError,
        match=r"^train: data set 'train': the rows of .*train\.csv have more values than its first line has names: put "
        "texts with a comma in double quotes, and a name above each column",
    ):
        load(tmp_path, *rows)


@pytest.mark.parametrize("row", ["a film;good", "well, a film;good"])
def test_semicolons_between_columns_are_refused(tmp_path, row):
    message = r"^train: data set 'train': the first line of .*train\.csv is 'text;label', with semicolons and no comma: save it"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, row, header="text;label")


def test_a_column_may_be_called_as_pandas_calls_its_index(tmp_path):
    (tmp_path / "a.csv").write_text("text,__index_level_0__\nfilm,7\n")
    assert DatasetSpec.parse(str(tmp_path / "a.csv")).numbered()[0][0] == {"text": "film", "__index_level_0__": 7}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [1, 2, 3],
            "the classes 1, 2, 3 in 'label', and numbers have to count from 0 without a gap: subtract 1 from each",
        ),
        ([-1, 0], "the classes -1, 0 in 'label', .*: add 1 to each, or write names$"),
        ([-1, 1], "the classes -1, 1 in 'label', .*: write 0 for -1, or write names$"),
        ([0, 2], "the classes 0, 2 in 'label', .*: write 1 for 2, or write names$"),
        ([0.0, 1.0], r"has Value\('float64'\) in it: write whole numbers, such as 0 and 1, or names in all data sets$"),
    ],
)
def test_numbers_that_are_no_indices_are_refused_with_what_to_write(tmp_path, labels, message):
    with pytest.raises(ValueError, match=f"^train: the .*{message}"):
        load(tmp_path, *(f"a,{label}" for label in labels))


def test_classes_that_differ_only_in_spaces_are_refused(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"^train: the training data has the classes ' good' and 'good' in 'label', which differ only in the spaces",
    ):
        load(tmp_path, "a,good", "b, good", "c,bad")
