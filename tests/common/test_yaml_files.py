"""YAML files are read as they were meant, or refused by their names."""

import re

import pytest

from ftp_hf.common.yaml_files import read_yaml

CONFIG = "methods:\n  ftp: {kappa: 1}\n  plain:\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"methods: [", "is not YAML"),
        (b"day: 2026-13-45", "is not YAML: month must be in 1..12"),
        (CONFIG.encode("utf-16"), "is not UTF-8 (invalid start byte): save it in this encoding"),
        (
            "train: M\u00e4rz.csv".encode("latin-1"),
            "is not UTF-8 (invalid continuation byte): save it in this encoding",
        ),
        (f"{CONFIG}  'ftp':\n".encode(), "is not YAML: the key 'ftp' is in line 2 and in line 4: delete one"),
        (b"ftp:\n  <<: kappa", "is not YAML: << in line 2 must name a mapping, or a list of them"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{file} {message}")):
        read_yaml(file)


def test_of_merged_mappings_the_first_counts(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "a: &a {x: 1, rate: 1}\nb: &b {<<: *a, rate: 2, 1: int, '1': str}\nc: {<<: [*b, *a, {x: 3}]}\nd: *b\n"
    )
    one, two = {"x": 1, "rate": 1}, {"x": 1, "rate": 2, 1: "int", "1": "str"}
    assert read_yaml(file) == {"a": one, "b": two, "c": two, "d": two}


def test_keys_take_the_place_of_merged_ones_and_are_apart_by_their_types(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(
        b"\xef\xbb\xbfa: {b: &b {x: 1, y: 2}, c: &c {<<: *b, x: 3}}\nd: {<<: *c, y: 4}\n1: one\n'1': one\n"
    )
    one, two = {"x": 1, "y": 2}, {"x": 3, "y": 2}
    assert read_yaml(file) == {"a": {"b": one, "c": two}, "d": {"x": 3, "y": 4}, 1: "one", "1": "one"}
