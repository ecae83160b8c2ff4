"""`python -m ftp_hf`."""

import runpy
import sys

import pytest

from ftp_hf import __version__


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ftp-hf", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("ftp_hf", run_name="__main__")
    assert capsys.readouterr().out == f"ftp-hf {__version__}\n"
