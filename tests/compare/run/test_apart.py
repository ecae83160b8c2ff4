"""Rows that a model learnt from are in no test, by whatever name."""

import shutil

import pytest
from datasets import Dataset

from ftp_hf.compare.run.apart import check_rows_apart


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
