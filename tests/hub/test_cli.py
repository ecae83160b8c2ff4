"""The command, in processes of its own, as a user types it."""

import pytest

from ftp_hf.cli import main
from tests.support.hub.faults import answer
from tests.support.hub.runs import PUSHED, TOKENS, hashes, pushed, titles, write_results, write_rules


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


def test_check(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    write_results(run)
    met = write_rules(tmp_path / "met.yaml", "id/test >= 0.97", "ood_mean >= 0.9")
    assert main(["check", str(run), "--rules", str(met)]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("id/test >= 0.97", "0.974", "ood_mean >= 0.9", "0.937", "met"))
    assert "broken" not in table

    broken = write_rules(tmp_path / "broken.yaml", "id/test >= 0.98", "ood/noise >= 0.1", "forgetting <= 1")
    assert main(["check", str(run), "--rules", str(broken)]) == 1
    table = " ".join(capsys.readouterr().out.split())
    assert "id/test >= 0.98 │ 0.974 │ 0.98 │ broken" in table
    assert "there is no set ood/noise" in table
    assert "the pre-trained model has no accuracy on" in table


def test_push_with_rules(hub, run, tmp_path, capsys):
    write_results(run)
    broken = write_rules(tmp_path / "broken.yaml", "ood/blur >= 0.95")
    assert main(["push", str(run), "me/model", "--rules", str(broken)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("breaks ood/blur >= 0.95 (it is 0.937, against 0.95): nothing was pushed\n")
    assert not hub.faults.requests
    met = write_rules(tmp_path / "met.yaml", "ood/blur >= 0.9")
    assert main(["push", str(run), "me/model", "--rules", str(met)]) == 0
    assert titles(hub) == ["ID 97.4, OOD mean 93.7"]


@pytest.mark.slow
def test_gate_of_a_pipeline(python, run, tmp_path):
    write_results(run)
    for rule, status in (("id/test >= 0.9", 0), ("id/test >= 0.99", 1), ("id/test = 0.9", 2)):
        rules = write_rules(tmp_path / "rules.yaml", rule)
        assert python("-m", "ftp_hf", "check", run, "--rules", rules).returncode == status, rule


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "RUN"], "the following arguments are required: --rules"),
        (["check", "RUN", "--rules", "bad.yaml"], "bad.yaml: the rule 'id/test = 1' is not understood"),
        (["push", "RUN", "me/model", "--rules", "bad.yaml"], "bad.yaml: the rule 'id/test = 1' is not understood"),
        (["check", "RUN", "--rules", "absent.yaml"], "No such file"),
        (["check", "RUN", "--rules", "."], ". is a folder: name the YAML file"),
        (["check", "absent", "--rules", "good.yaml"], "results.json does not exist"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(arguments, message, hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(run)
    write_rules(tmp_path / "bad.yaml", "id/test = 1")
    write_rules(tmp_path / "good.yaml", "id/test >= 1")
    with pytest.raises(SystemExit, match="2"):
        main([str(run) if word == "RUN" else word for word in arguments])
    assert message in capsys.readouterr().err
    assert not hub.faults.requests


@pytest.mark.slow
def test_error_is_one_line(hub, python, run):
    failed = python("-m", "ftp_hf", "push", run, "me/model", user="unknown")
    assert failed.returncode == 1
    assert failed.stdout == ""
    # bitsandbytes, where it is installed, says at its import what it lacks.
    (line,) = [line for line in failed.stderr.splitlines() if "gemm_4bit_forward" not in line]
    assert line.startswith("ftp-hf push: me/model: ")
    assert "Log in" in line
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
