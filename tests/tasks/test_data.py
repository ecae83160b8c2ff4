import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from ftp_hf.tasks import DataOptions, TaskData
from ftp_hf.tasks.data import sample


@pytest.fixture
def options(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    texts = [f"text {row}" for row in range(20)]
    for name in ("train", "validation", "test", "far"):
        rows = Dataset.from_dict({"text": [f"{name} {text}" for text in texts], "label": [0, 1] * 10}, features)
        rows.to_parquet(tmp_path / f"{name}.parquet")
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "validation", "test")}
    return DataOptions(**paths, ood=[str(tmp_path / "far.parquet")])


def test_a_sample_is_the_same_each_time_and_no_larger_than_the_data():
    rows = Dataset.from_dict({"row": list(range(20))})
    drawn = sample(rows, 5)["row"]
    assert drawn == sample(rows, 5)["row"] != list(range(5))
    assert len(set(drawn)) == 5
    assert sample(rows, 20) is sample(rows, None) is rows


def test_so_many_rows_of_each_test_set_and_all_validation_data(options):
    data = TaskData.load(options)
    limited = data.evaluations(5)
    assert [(facts.name, facts.size, len(rows)) for facts, rows in limited] == [
        ("validation", 20, 20),
        ("test", 5, 5),
        ("far", 5, 5),
    ]
    assert [len(rows) for _, rows in data.evaluations()] == [20, 20, 20]
    assert list(limited[1][1]["text"]) == list(data.test.shuffle(seed=0).select(range(5))["text"])


@pytest.mark.parametrize(
    ("broken", "named"), [("train", "the training data"), ("test", "data set 'test'"), ("far", "data set 'far'")]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_row_without_a_class_is_refused(tmp_path, broken, named, kind):
    files = {name: tmp_path / f"{name}.{kind}" for name in ("train", "test", "far")}
    for name, file in files.items():
        rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, None if name == broken else 0]})
        rows.to_csv(file) if kind == "csv" else rows.to_json(file)
    with pytest.raises(
        ValueError,
        match=f"row 2 of {named} has None in 'label', where nothing may be empty: fill it, or leave the row out",
    ):
        TaskData.load(DataOptions(str(files["train"]), str(files["test"]), ood=[str(files["far"])]))


@pytest.mark.parametrize("broken", ["train", "test", "far"])
def test_a_row_without_the_name_of_its_class_is_refused(tmp_path, broken):
    files = {name: tmp_path / f"{name}.csv" for name in ("train", "test", "far")}
    for name, file in files.items():
        file.write_text(f"text,label\na,bad\nb,good\nc,{'' if name == broken else 'bad'}\n")
    with pytest.raises(
        ValueError, match=f"data set '{broken}' has rows without 'label', 1 of them: fill or drop them, from row 2 on"
    ):
        TaskData.load(DataOptions(str(files["train"]), str(files["test"]), ood=[str(files["far"])]))


@pytest.mark.parametrize(
    ("labels", "shown"),
    [([[0], None, [1]], "row 1 of .* has None"), ([[0], [1], [0, None]], r"row 2 of .* has \[0, None\]")],
)
@pytest.mark.parametrize("broken", ["train", "test"])
def test_a_list_without_a_class_is_refused(tmp_path, labels, shown, broken):
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "test")}
    for name, file in files.items():
        given = labels if name == broken else [[0], [1], []]
        file.write_text("\n".join(json.dumps({"text": "a", "label": each}) for each in given))
    with pytest.raises(ValueError, match=rf"^{broken}: {shown} in 'label', where nothing may be empty"):
        TaskData.load(DataOptions(str(files["train"]), str(files["test"])))


@pytest.mark.parametrize("name", ["max_eval_samples", "max_train_samples"])
def test_no_rows_are_refused(options, name):
    setattr(options, name, 0)
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        TaskData.load(options)
