import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from ftp_hf.tasks import DataOptions, TaskData
from ftp_hf.tasks.data import naming, sample
from ftp_hf.tasks.row_checks import check_texts


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
        ValueError,
        match=f"row 2 of data set '{broken}' has None in 'label', where nothing may be empty: fill it, or leave",
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


@pytest.mark.parametrize("labels", [[0, 1] * 20, ["bad", "good"] * 20])
@pytest.mark.parametrize(
    ("kept", "options"),
    [
        ("", {"validation_fraction": 0.25}),
        ("", {"validation_fraction": 0.25, "train_fraction": 0.9}),
        ("", {"validation_fraction": 0.25, "max_train_samples": 30}),
        ("?part=late", {}),
        ("?part=even", {"validation_fraction": 0.25}),
    ],
)
def test_the_row_of_an_error_is_that_of_the_file(tmp_path, labels, kept, options):
    rows = {"text": [f"row {row}" for row in range(40)], "label": labels}
    part = ["late" if row >= 30 else "even" if row % 4 < 2 else "odd" for row in range(40)]
    for name in ("train", "test"):
        Dataset.from_dict({**rows, "part": part}).to_csv(tmp_path / f"{name}.csv")
    data = TaskData.load(DataOptions(f"{tmp_path}/train.csv{kept}", str(tmp_path / "test.csv"), **options))
    sets = {key: (dataset, numbers) for key, _, dataset, numbers in data.named()}
    assert {*sets} == {"train", "test", *(["validation"] if options else [])}
    for key, (dataset, numbers) in sets.items():
        assert [f"row {number}" for number in numbers] == dataset["text"][:]
        number = numbers[-1]
        broken = dataset.map(lambda row, gone=number: {"text": None if row["text"] == f"row {gone}" else row["text"]})
        with pytest.raises(ValueError, match=f"^{key}: row {number} of data set has no text"), naming(key, numbers):
            check_texts("data set", broken, "text")


def test_a_row_without_a_class_is_found_in_the_file(tmp_path):
    rows = {"text": ["a"] * 6, "label": ["x", "y", "x", "y", None, "x"], "part": [0, 0, 1, 1, 1, 1]}
    Dataset.from_dict(rows).to_csv(tmp_path / "all.csv")
    with pytest.raises(ValueError, match=r"^train: row 4 of data set 'train' has None in 'label'"):
        TaskData.load(DataOptions(f"{tmp_path}/all.csv?part=1", f"{tmp_path}/all.csv?part=0"))


@pytest.mark.parametrize("name", ["max_eval_samples", "max_train_samples"])
def test_no_rows_are_refused(options, name):
    setattr(options, name, 0)
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        TaskData.load(options)
