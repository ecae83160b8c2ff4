"""A misspelt command or option is answered with the one that it may have meant."""

import pytest

from ftp_hf.cli import main


def error_of(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    said = capsys.readouterr()
    assert said.out == ""
    usage, error = said.err.split("ftp-hf", 1)[0], said.err.splitlines()[-1]
    assert usage == "usage: "
    assert "error: " in error
    return error


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["comapre"], "compare"),
        (["chekc", "run", "--rules", "rules.yaml"], "check"),
        (["roll-back", "me/model", "--to", "v1"], "rollback"),
        (["--verison"], "--version"),
        (["compare", "config.yaml", "--outptu_dir", "out"], "--output_dir"),
        (["compare", "config.yaml", "--output-dir=out"], "--output_dir"),
        (["push", "run", "me/model", "--privat", "--revison", "main"], "--revision"),
        (["check", "run", "--ruels", "rules.yaml"], "--rules"),
        (["rollback", "me/model", "--ot", "v1"], "--to"),
    ],
)
def test_what_may_have_been_meant(words, meant, capsys):
    assert error_of(words, capsys).endswith(f"(did you mean {meant!r}?)")


@pytest.mark.parametrize(
    "words", [[], ["frobnicate"], ["compare"], ["compare", "config.yaml", "--frobnicate"], ["push", "run", "--priv"]]
)
def test_nothing_is_suggested_where_nothing_is_close(words, capsys):
    assert "did you mean" not in error_of(words, capsys)
