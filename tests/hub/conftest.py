import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest

from tests.support.hub.runs import TOKENS, USERS, write_run
from tests.support.hub.server import Hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running Hub that this process talks to, logged in as `me`, without waiting between attempts."""
    server = Hub(tmp_path / "hub", USERS)
    # What the environment would have set before the import.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    monkeypatch.setenv("HF_TOKEN", TOKENS["writer"])
    with server.running():
        yield server


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited, in order."""
    waited = []
    clock = SimpleNamespace(sleep=waited.append)
    for module in ("huggingface_hub.utils._http", "ftp_hf.hub.errors"):
        monkeypatch.setattr(f"{module}.time", clock)
    return waited


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def python(hub, tmp_path):
    """Runs Python in a process of its own, with nothing in its cache, on the Hub."""

    def start(*arguments, user="writer", **environment):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={
                **variables,
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_DISABLE_XET": "1",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
                **({"HF_TOKEN": TOKENS[user]} if user else {}),
                **environment,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return start


@pytest.fixture(autouse=True)
def _logged_out_environment(monkeypatch):
    for name in list(os.environ):
        if "TOKEN" in name and name != "TOKENIZERS_PARALLELISM":
            monkeypatch.delenv(name)
