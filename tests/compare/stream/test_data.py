"""Rows of earlier stages that are trained again."""

from collections import Counter

from datasets import Dataset

from ftp_hf.compare.stream.data import some_rows


def test_so_many_rows_of_each_class():
    rows = Dataset.from_dict({"label": [0] * 5 + [1] * 2 + [2] * 9, "row": list(range(16))})
    drawn = some_rows(rows, 3, "label")
    assert Counter(drawn["label"]) == {0: 3, 1: 2, 2: 3}
    assert drawn["row"] == some_rows(rows, 3, "label")["row"]
    assert set(some_rows(rows, 2, "label")["row"]) < set(drawn["row"])


def test_so_many_rows_where_there_are_no_classes():
    rows = Dataset.from_dict({"text": list("abcdef")})
    assert len(some_rows(rows, 4, None)) == 4
    assert len(some_rows(rows, 9, None)) == 6
