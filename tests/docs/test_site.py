"""The site is built strictly, and in a browser no page has a script error, asks another server, or is wider than a phone."""

import functools
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

from tests.support.pages import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOWN = ("index.html", "config.html", "methods.html", "results.html", "reference/ftp_hf.optim.html")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed: make docs"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_front_page_is_the_readme(site):
    text = (site / "index.html").read_text()
    assert "From a Trainer script to FTP" in text
    assert 'src="method.png"' in text


@pytest.fixture
def address(site):
    """Of the site, on loopback: the search asks for its index, which no browser reads from the disk."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SilentHandler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
def test_pages_fit_a_phone_and_ask_nobody(address):
    sync_api = pytest.importorskip("playwright.sync_api")
    errors, requests, wide = [], [], {}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        for name in SHOWN:
            page.goto(f"{address}/{name}")
            wide[name] = page.evaluate("document.documentElement.scrollWidth")
        assert page.evaluate("document.body.dataset.mdColorScheme") == "slate", "as dark as the system"
        browser.close()
    assert errors == []
    assert [url for url in requests if not url.startswith((address, f"blob:{address}", "data:"))] == []
    assert max(wide.values()) <= 390, wide
