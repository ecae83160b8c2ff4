"""The folder of a trial: its files fit together, and nothing is replaced."""

import pytest

from ftp_hf.cli import main
from ftp_hf.compare.run.config import ComparisonConfig
from ftp_hf.runs.rules import load_rules
from ftp_hf.trial.start import LANGUAGES, start_trial


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("task", "rule"), [("text-classification", "id/test >= 0.8"), ("text-classification/regression", "id/test <= 1.0")]
)
def test_the_config_takes_the_rules_of_the_file_beside_it(tmp_path, task, rule, language):
    files = start_trial(tmp_path / "new", task, language)
    assert [file.name for file in files] == ["checklist.md", "config.yaml", "rules.yaml", "decision.md"]
    config = ComparisonConfig.load(tmp_path / "new" / "config.yaml")
    assert config.task == task
    assert config.rules == [each.text for each in load_rules(tmp_path / "new" / "rules.yaml")]
    assert config.rules[0] == rule


def test_files_that_are_there_stay(tmp_path, capsys):
    (tmp_path / "rules.yaml").write_text("mine")
    assert main(["trial", "init", str(tmp_path), "--task", "text-classification"]) == 1
    assert "rules.yaml exists" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["rules.yaml"]


def test_a_file_is_no_folder_of_a_trial(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match=r"DIR .*file/new is no folder, as .*file is a file: name another one"):
        start_trial(tmp_path / "file" / "new", "text-classification")


@pytest.mark.parametrize(
    ("options", "said"), [([], "--task must be given"), (["--task", "text-clasification"], "text-classification")]
)
def test_a_task_is_needed_that_there_is(tmp_path, capsys, options, said):
    assert main(["trial", "init", str(tmp_path / "new"), *options]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_rules_in_a_file_are_read_with_the_config(tmp_path):
    start_trial(tmp_path, "text-classification")
    (tmp_path / "rules.yaml").unlink()
    with pytest.raises(ValueError, match="or the name of a file of them in"):
        ComparisonConfig.load(tmp_path / "config.yaml")
    (tmp_path / "rules.yaml").write_text("metric: f1\nrules: [id/test >= 0.8]")
    with pytest.raises(ValueError, match="names a metric"):
        ComparisonConfig.load(tmp_path / "config.yaml")
