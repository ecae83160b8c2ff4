"""Which methods `ftp-hf compare` is told to compare."""

import os

import pytest

from ftp_hf.cli import main
from ftp_hf.compare.run import comparison as run_comparison
from tests.support.comparisons import comparison


@pytest.fixture
def compared(monkeypatch):
    """The configs that would be compared."""
    configs = []
    monkeypatch.setattr(run_comparison, "rehearse", configs.append)
    return configs


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "trial.yaml"
    file.write_text(
        "{task: image-classification, model: vit, train: a.parquet, validation: b.parquet, test: c.parquet, seeds: [0],"
        " learning_rate: 1.0e-3, methods: {plain: {learning_rate: 0.5}, l2-sp: }}"
    )
    return file


def test_methods_of_the_command_take_the_place_of_those_of_the_config(file, compared):
    assert main(["compare", str(file), "--dry-run"]) == 0
    assert main(["compare", str(file), "--dry-run", "--methods", "plain, wise-ft,ftp"]) == 0
    whole, named = (config.methods for config in compared)
    assert list(whole) == ["plain", "l2-sp"]
    assert list(named) == ["plain", "wise-ft", "ftp"]
    assert (named["plain"], named["ftp"]["learning_rate"]) == ({"learning_rate": [0.5]}, [1e-3])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("plain,fpt", "unknown method 'fpt' (did you mean 'ftp'?)"),
        ("plain,", "unknown method ''. Allowed: plain,"),
        ("", "unknown method ''. Allowed: plain,"),
        ("wise-ft", "method 'wise-ft' builds on 'plain': add it to methods"),
    ],
)
def test_methods_that_cannot_be_compared(file, compared, capsys, methods, message):
    assert main(["compare", str(file), "--dry-run", "--methods", methods]) == 1
    assert f"{file}: {message}" in capsys.readouterr().err
    assert not compared


@pytest.mark.parametrize("place", ["trial.yaml", "trial.yaml/runs"])
def test_a_file_is_no_folder_of_a_comparison(file, compared, capsys, place):
    folder = file.parent / place
    assert main(["compare", str(file), "--dry-run", "--output_dir", str(folder)]) == 1
    assert f"--output_dir {folder} is no folder, as {file} is a file: name another one" in capsys.readouterr().err
    assert not compared


def test_a_link_to_nothing_is_no_folder_of_a_comparison(file, compared, capsys):
    link = file.parent / "link"
    link.symlink_to(file.parent / "gone")
    assert main(["compare", str(file), "--dry-run", "--output_dir", str(link / "out")]) == 1
    assert (
        f"--output_dir {link / 'out'} is no folder, as {link} is a link to what is not there" in capsys.readouterr().err
    )
    assert not compared


def test_a_folder_that_cannot_be_written_to_is_refused(file, compared, capsys, monkeypatch):
    results = comparison()
    results.save(file.parent)
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (file.parent, os.W_OK))
    for words, remedy in [
        (["compare", str(file), "--output_dir", str(file.parent / "out")], "name another one"),
        (["report", str(file.parent)], "copy its results.json to another folder, and name that"),
    ]:
        assert main(words) == 1
        assert f"nothing can be written to {file.parent}: {remedy}" in capsys.readouterr().err
    assert not compared
    assert not (file.parent / "report.md").exists()
