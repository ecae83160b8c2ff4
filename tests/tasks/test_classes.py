"""Data whose classes are names: each set gets the indices of the training data's."""

import pytest
from datasets import ClassLabel, Dataset

from ftp_hf.tasks import DataOptions, TaskData


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, labels in {
        "train": ["open", "close", "open", "stop"],
        "test": ["stop", "open"],
        "other": ["shut", "open"],
        "holes": ["open", None],
    }.items():
        Dataset.from_dict({"text": [f"please {label}" for label in labels], "intent": labels}).to_csv(f"{name}.csv")
    return tmp_path


def load(**options):
    return TaskData.load(DataOptions(train="train.csv", label_column="intent", **options))


@pytest.mark.usefixtures("folder")
def test_names_are_indices_of_the_training_data():
    data = load(test="test.csv", ood=["other.csv"], label_aliases=["shut=close"])
    assert data.labels == ["close", "open", "stop"]
    assert [list(each["intent"]) for each in (data.train, data.test, data.ood["other"])] == [
        [1, 0, 1, 2],
        [2, 1],
        [0, 1],
    ]
    assert data.test.features["intent"] == ClassLabel(names=data.labels)
    assert data.test["text"][0] == "please stop"


@pytest.mark.usefixtures("folder")
def test_what_is_no_class_of_the_training_data_is_refused():
    with pytest.raises(
        ValueError, match=r"ood: data set 'other' has the labels \['shut'\], which the training data does not"
    ):
        load(test="test.csv", ood=["other.csv"])
    with pytest.raises(
        ValueError, match="test: data set 'test' has rows without 'intent', 1 of them: fill or drop them"
    ):
        load(test="holes.csv")


@pytest.mark.usefixtures("folder")
def test_a_part_of_the_training_data_is_held_out_by_class():
    Dataset.from_dict({"text": ["a"] * 8, "intent": ["open", "close"] * 4}).to_csv("train.csv")
    Dataset.from_dict({"text": ["a"], "intent": ["open"]}).to_csv("test.csv")
    data = load(test="test.csv", validation_fraction=0.5)
    assert sorted(data.validation["intent"]) == sorted(data.train["intent"]) == [0, 0, 1, 1]


@pytest.mark.usefixtures("folder")
def test_a_class_of_one_row_cannot_be_held_out():
    Dataset.from_dict({"text": ["a"] * 9, "intent": ["open", "close"] * 4 + ["stop"]}).to_csv("train.csv")
    Dataset.from_dict({"text": ["a"], "intent": ["open"]}).to_csv("test.csv")
    with pytest.raises(ValueError, match="validation_fraction: only one row has 'stop' in 'intent'"):
        load(test="test.csv", validation_fraction=0.5)
