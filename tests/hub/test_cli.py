"""The command, in processes of its own, as a user types it."""

import pytest
from faults import answer
from small_runs import PUSHED, TOKENS, hashes, pushed, titles

from ftp_hf.cli import main


@pytest.mark.slow
def test_push(hub, python, run):
    before = hashes(run)
    first = python("-m", "ftp_hf", "push", run, "me/model", "--private")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("me/model v1 (")
    assert first.stdout.endswith("): Fine-tuned for 20 steps\n")
    assert hub.store.get("me/model").private
    assert pushed(hub) == {name: before[name] for name in PUSHED}
    assert hashes(run) == before


@pytest.mark.usefixtures("hub")
def test_commands(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["push", str(run), "me/model"]) == 0
    (run / "config.json").write_text("{}")
    assert main(["push", str(run), "me/model", "--revision", "main"]) == 0
    assert main(["rollback", "me/model", "--to", "v1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in said] == ["me/model v1", "me/model v2", "me/model v3"]

    assert main(["history", "me/model"]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("v1", "v2", "v3", "Fine-tuned for 20 steps", "Roll back to v1"))


@pytest.mark.slow
def test_error_is_one_line(hub, python, run):
    failed = python("-m", "ftp_hf", "push", run, "me/model", user="unknown")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 1
    assert failed.stderr.startswith("ftp-hf push: me/model: ")
    assert "Log in" in failed.stderr
    assert TOKENS["unknown"] not in failed.stderr
    assert not hub.store.ids()


@pytest.mark.usefixtures("waits")
def test_errors(hub, run, capsys):
    assert main(["push", str(run / "absent"), "me/model"]) == 1
    assert "absent is not a folder" in capsys.readouterr().err
    assert main(["push", str(run), "me/model"]) == 0
    capsys.readouterr()
    assert main(["rollback", "me/model", "--to", "v5"]) == 1
    assert capsys.readouterr().err == "ftp-hf rollback: me/model has no version v5: its versions are v1\n"
    hub.faults.add("GET", "/refs", answer(403), times=1000)
    assert main(["history", "me/model"]) == 1
    assert "the Hub answers 403" in capsys.readouterr().err
    assert titles(hub) == ["Fine-tuned for 20 steps"]


@pytest.mark.parametrize("arguments", [[], ["compare"], ["push", "run"], ["rollback", "me/model"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: ftp-hf" in capsys.readouterr().err
