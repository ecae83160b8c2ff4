"""`python -m ftp_hf`, and what the command makes of errors."""

import io
import os
import runpy
import sys
import tempfile

import pytest

from ftp_hf import __version__
from ftp_hf.cli import main
from ftp_hf.compare.run import forked
from ftp_hf.runs.summary import RunSummary


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ftp-hf", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("ftp_hf", run_name="__main__")
    assert capsys.readouterr().out == f"ftp-hf {__version__}\n"


@pytest.mark.parametrize("command", ["compare CONFIG", "compare --init sentence-similarity NEW"])
def test_a_task_without_its_package_is_one_line(command, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ftp_hf.tasks.similarity", raising=False)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    config = tmp_path / "config.yaml"
    config.write_text("task: sentence-similarity\nmodel: m\ntrain: t\nvalidation: v\ntest: t\nmethods: {plain: }\n")
    words = {"CONFIG": str(config), "NEW": str(tmp_path / "new.yaml")}
    assert main([words.get(word, word) for word in command.split()]) == 1
    assert capsys.readouterr().err.splitlines() == [
        'ftp-hf compare: the task "sentence-similarity" trains with sentence-transformers: pip install "ftp-hf[embeddings]"'
    ]


@pytest.mark.parametrize(
    ("task", "said"),
    [("text-clasification", "text-classification"), ("", "text-classification"), ("image-classification", "exists")],
)
def test_a_first_config_is_written_whole_or_not_at_all(task, said, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    if said == "exists":
        file.write_text("mine")
    assert main(["compare", "--init", task, str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert file.read_text() == "mine" if said == "exists" else not file.exists()


def test_the_folder_of_a_first_config_is_made(tmp_path, capsys):
    file = tmp_path / "new" / "folder" / "config.yaml"
    assert main(["compare", "--init", "text-classification", str(file)]) == 0
    assert file.is_file()
    assert main(["compare", "--init", "text-classification", str(file / "config.yaml")]) == 1
    assert f"the folder of CONFIG {file} is no folder, as {file} is a file" in capsys.readouterr().err


@pytest.mark.parametrize("buffering", [1, -1])
@pytest.mark.parametrize("command", [["compare", "--init", "text-classification", "config.yaml"], ["tasks"]])
def test_who_reads_may_go(tmp_path, capsys, monkeypatch, command, buffering):
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering) as unread, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", unread)
        assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_a_file_is_no_folder_of_results(tmp_path, capsys):
    file = tmp_path / "file.txt"
    file.touch()
    assert main(["report", str(file)]) == 1
    assert "does not exist: name the output_dir of a comparison that has finished" in capsys.readouterr().err


@pytest.mark.parametrize(("encoding", "said"), [("utf-8", "wer ↓"), ("ascii", "wer (less is better)")])
def test_tasks_are_listed_in_any_encoding(encoding, said, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["tasks"]) == 0
    sys.stdout.flush()
    assert said in written.getvalue().decode(encoding)
    assert "less is better" in written.getvalue().decode(encoding)
    with pytest.raises(SystemExit, match="0"):
        main(["push", "--help"])  # which has an ellipsis


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", ""])
@pytest.mark.parametrize(
    "words",
    [
        "compare a.yaml --dry-run --jobs",
        "compare a.yaml --sbatch",
        "compare a.yaml --share --jobs",
        "stream a.yaml --jobs",
    ],
)
def test_jobs_are_counted_from_one(words, number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*words.split(), number])
    option = words.split()[-1]
    assert f"argument {option}: must be a positive whole number, got {number!r}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "stream"])
def test_a_place_for_sockets_that_they_cannot_have_is_told(command, capsys, monkeypatch):
    def ensure_running():
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(forked, "CAN_FORK", True)
    monkeypatch.setattr(forked.forkserver, "ensure_running", ensure_running)
    assert main([command, "a.yaml", "--jobs", "2"]) == 1
    said = capsys.readouterr().err
    assert f"from {tempfile.gettempdir()}: AF_UNIX path too long; name a shorter folder" in said
    assert "TMPDIR" in said


@pytest.mark.parametrize(
    "words",
    [
        ["compare", ""],
        ["stream", "a.yaml", "--output_dir", ""],
        ["report", ""],
        ["trial", "init", "", "--task", "text-classification"],
        ["check", "", "--rules", "rules.yaml"],
        ["check", ".", "--rules", ""],
        ["push", "", "me/model"],
    ],
)
def test_nothing_is_no_path(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunSummary("a", "a").save(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "names no file or folder: write . for the working directory" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_an_import_that_is_a_fault_shows_where_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftp_hf.tasks", None)
    with pytest.raises(ModuleNotFoundError, match=r"ftp_hf\.tasks"):
        main(["tasks"])
