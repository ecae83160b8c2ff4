"""Rows that a model learnt from are in no test, by whatever name."""

import shutil
from io import BytesIO

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pictures

from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.run.overlap import check_rows_apart, known_inputs
from ftp_hf.compare.run.runner import Runner
from ftp_hf.tasks import Task
from ftp_hf.tasks.image import ImageTask
from ftp_hf.tasks.regression import TextRegressionTask
from ftp_hf.tasks.tagging import TaggingTask
from ftp_hf.tasks.text import TextTask
from tests.support.tiny_data import image_config, write_config


@pytest.fixture
def rows(tmp_path):
    """Those of part c are by writer x, all others by x and y."""
    file = tmp_path / "all.parquet"
    Dataset.from_dict({"part": [*"aabbcc"], "writer": [*"xyxyxx"]}).to_parquet(file)
    return file


@pytest.mark.parametrize(
    ("train", "test", "are_apart"),
    [
        ("part=a", "part=c", True),
        ("writer=y", "part=c", True),
        ("writer=x", "part=c", False),
        ("part=a", "writer=y", False),
    ],
)
@pytest.mark.parametrize("key", ["train", "validation"])
def test_two_columns_may_keep_the_same_rows(rows, key, train, test, are_apart):
    named = {key: f"{rows}?{train}", "test": f"{rows}?{test}"}
    if are_apart:
        check_rows_apart(named)
    else:
        with pytest.raises(ValueError, match=f"{key} and test name the same data, '{rows}\\?{test}'"):
            check_rows_apart(named)


def test_tests_may_share_rows_but_not_all_of_them(rows):
    check_rows_apart({"test": f"{rows}?writer=x", "ood": [f"{rows}?part=c"]})
    with pytest.raises(ValueError, match="ood and retained name the same data"):
        check_rows_apart({"ood": [f"{rows}?part=c"], "retained": [f"again={rows}?part=c"]})


def test_a_copy_is_the_same_data(rows, tmp_path):
    copy = shutil.copy(rows, tmp_path / "copy.parquet")
    with pytest.raises(ValueError, match="validation and test name the same data"):
        check_rows_apart({"validation": str(rows), "test": str(copy)})
    with pytest.raises(ValueError, match="train and test name the same data"):
        check_rows_apart({"train": str(rows), "test": f"{copy}?part=c"})
    check_rows_apart({"train": f"{rows}?part=a", "test": f"{copy}?part=c"})


def test_so_is_a_folder_and_what_is_in_it(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "rows.csv").write_text("text,label\ngood,0\nbad,1\n")
    (one / "README.md").write_text("A card.")
    shutil.copytree(one, other)
    for train, test in ((one, other), (one / "rows.csv", one), (one, other / "rows.csv")):
        with pytest.raises(ValueError, match="train and test name the same data"):
            check_rows_apart({"train": str(train), "test": str(test)})
    check_rows_apart({"train": str(one), "test": f"{other}#test"})
    (other / "rows.csv").write_text("text,label\ngood,0\nbad,0\n")  # as long as it was
    check_rows_apart({"train": str(one), "test": str(other)})
    check_rows_apart({"train": "someone/data", "test": "someone/other"})


def read_by(kind, **options):
    """A task that reads rows, without its model."""
    task = kind.__new__(kind)
    task.options = kind.options_class(**options)
    return task


def encoded(*shades):
    """The bytes of pictures."""
    files = [BytesIO() for _ in shades]
    for file, shade in zip(files, shades, strict=True):
        Pictures.new("L", (2, 2), shade).save(file, "png")
    return [file.getvalue() for file in files]


@pytest.mark.parametrize(
    ("task", "train", "test", "known"),
    [
        (read_by(TextTask), {"text": [*"abb"], "label": [0, 1, 1]}, {"text": [*"bcb"], "label": [0, 0, 1]}, 2),
        (read_by(TextTask, text_columns=["text", "line"]), {"text": [*"ab"]}, {"line": [*"bc"]}, 1),
        (
            read_by(TextRegressionTask, second_text_column="other"),
            {"text": [*"ab"], "other": [*"xy"]},
            {"text": [*"ab"], "other": [*"xx"]},
            1,
        ),
        (read_by(TaggingTask), {"tokens": [["a", "b"]]}, {"tokens": [["a", "b"], ["a"]]}, 1),
        (read_by(ImageTask), {"image": encoded(0, 9)}, {"image": encoded(9, 200, 201)}, 1),
        (read_by(Task), {"text": ["a"]}, {"text": ["a"]}, 0),
    ],
)
def test_inputs_that_are_in_train_too_are_counted(task, train, test, known):
    given, other = Dataset.from_dict(train), Dataset.from_dict(test)
    assert known_inputs(task, given, [other, given.select([])]) == [known, 0]


@pytest.mark.parametrize("kind", [Image(), Value("string"), Value("large_string")], ids=["image", "jsonl", "csv"])
def test_a_file_is_the_same_input_wherever_it_lies(tmp_path, kind):
    [bytes_of_one] = encoded(9)
    for name in ("one", "other"):
        (tmp_path / f"{name}.png").write_bytes(bytes_of_one)
    one, other = (
        Dataset.from_dict({"image": [str(tmp_path / f"{name}.png")]}, Features({"image": kind}))
        for name in ("one", "other")
    )
    packed = Dataset.from_dict({"image": [bytes_of_one]}, Features({"image": Image()}))
    assert known_inputs(read_by(ImageTask), one, [other, packed]) == [1, 1]


def test_a_comparison_says_which_rows_of_a_test_are_in_train(texts, tmp_path, caplog):
    content = image_config(texts, task="text-classification", ood=[str(texts / "songs.parquet")])
    runner = Runner(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path / "runs")
    assert "the input of a row of train" not in caplog.text, "each worker has a runner"
    runner.check()
    lines = runner.data.describe()
    assert lines[2] == "test: 24 rows of 2 classes: negative 12, positive 12; 24 with the input of a row of train"
    assert lines[3] == "ood/songs: 24 rows of 2 classes: negative 12, positive 12"
    said = [record.getMessage() for record in caplog.records if record.name == "ftp_hf.compare.run.data"]
    assert [line.split(",")[0] for line in said] == [
        f"{count} of {count} rows of {name} have the input of a row of train"
        for name, count in (("validation", 16), ("test", 24))
    ]
