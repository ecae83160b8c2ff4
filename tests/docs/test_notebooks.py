"""The notebooks run as they are, and were saved with what they showed."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
FEWER = {
    "decide": {"ROWS": 100, "RATES": [1e-3], "SEEDS": [0]},
    "hearing": {"CLIPS": 32, "HEARD": 8, "SENTENCES": 8},
}
"""What the notebooks are run with here, in the place of what their first cells say."""

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every
def test_a_notebook_was_saved_with_its_outputs(path):
    assert path.stat().st_size <= 2 * 2**20
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert [output for output in outputs if "image/png" in output.get("data", {})], "nothing was plotted"
    # No folder of the machine that it was run on is told.
    assert not re.findall(r"(?<![\w.])/(?:root|home|tmp|work)/", path.read_text())


@every
@pytest.mark.slow
@pytest.mark.skipif(not (ROOT.parent / "shared" / "data").is_dir(), reason="needs ../shared/data")
def test_a_notebook_runs(path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Its commands are those of this environment.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert FEWER[path.stem].keys() <= set(re.findall(r"\b[A-Z]+\b", first.source))
    first.source += "".join(f"\n{name} = {value}" for name, value in FEWER[path.stem].items())
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    # A command that fails raises nothing in a notebook.
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
