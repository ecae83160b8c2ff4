"""examples/pairs/data.py: pairs of classified texts."""

import pytest
from datasets import Dataset

from tests.support.launch import run_here

FILE = "examples/pairs/data.py"
TEXTS = {"text": [*"abcdef", *"uvwxyz"], "label": [0] * 6 + [1] * 6}


def make(tmp_path, monkeypatch, *options):
    Dataset.from_dict(TEXTS).to_parquet(tmp_path / "texts.parquet")
    run_here(monkeypatch, FILE, tmp_path / "texts.parquet", tmp_path / "made" / "pairs.parquet", *options)
    return Dataset.from_parquet(str(tmp_path / "made" / "pairs.parquet"), cache_dir=str(tmp_path / "cache"))


def test_pairs_of_few_texts_are_alike_where_their_classes_are(tmp_path, monkeypatch):
    made = make(tmp_path, monkeypatch, "--per_class", "3", "--pairs", "40")
    label = dict(zip(TEXTS["text"], TEXTS["label"], strict=True))
    assert sum(made["score"]) == 20
    for row in made:
        assert (label[row["sentence1"]] == label[row["sentence2"]]) == (row["score"] == 1.0)
        assert row["sentence1"] != row["sentence2"]
    assert len({*made["sentence1"], *made["sentence2"]}) == 6


def test_more_texts_than_a_class_has_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        make(tmp_path, monkeypatch, "--per_class", "7")
    assert "--per_class 7 is more than there are of some classes: {0: 6, 1: 6}" in capsys.readouterr().err
