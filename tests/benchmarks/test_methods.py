"""The table of docs/methods.md: a row for each method, of what benchmarks/methods.py measured and METHODS says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.method_table import BEGIN, DATA, END, HEADER, ON_LANGUAGE, markdown, written
from ftp_hf.compare.run.method_kinds import Averaged, Derived, Trained
from ftp_hf.compare.run.methods import METHODS
from tests.support import launch

ROOT = Path(__file__).parents[2]
AFTERWARDS = ["none", "none", "no", "no", "afterwards (2)", "afterwards (2)"]
WHOLE = "needs whole parameters on every process, which FSDP splits"


def row(method, **facts):
    return {"method": method, "task": "text-classification", "lora": "", "sharded": "", **facts}


def cells(table):
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return {
        name.strip("`"): rest for name, *rest in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    }


def test_every_cell_is_measured_or_has_a_reason():
    timed = {"ratio": 1.2345, "lowest_ratio": 1.2, "highest_ratio": 1.3}
    rows = [
        row("plain", extra_bytes_per_parameter=0.0, ratio=1.0, lowest_ratio=1.0, highest_ratio=1.0),
        row("l2-sp", extra_bytes_per_parameter=4.0, sharded=WHOLE, **timed),
        row("tpgm", extra_bytes_per_parameter=8.04, sharded=WHOLE, lora="is refused | here", **timed),
        row("lora", extra_bytes_per_parameter=-7.96),
        row("spd", refused="only on Sundays"),
        row("ftp", task="text-generation", new_head="none yet", extra_bytes_per_parameter=4.0, **timed),
    ]
    table = markdown(rows)
    assert cells(table) == {
        **{name: ["not measured", "not measured", "no", "no", "not measured", "not measured"] for name in METHODS},
        **{name: AFTERWARDS for name, method in METHODS.items() if isinstance(method, Averaged | Derived)},
        "plain": ["0.0", "1.00× [1.00, 1.00]", "no", "no", "yes", "yes"],
        "small-lr": ["as `plain`", "as `plain`", "no", "no", "as `plain`", "as `plain`"],
        "l2-sp": ["+4.0", "1.23× [1.20, 1.30]", "no", "no", "yes", "no (1)"],
        "tpgm": ["+8.0", "1.23× [1.20, 1.30]", "ID validation data", "yes", "no (3)", "no (1)"],
        "lora": ["\N{MINUS SIGN}8.0", "not measured", "no", "no", "yes", "yes"],
        "spd": ["no (4)", "no (4)", "no", "no", "yes", "yes"],
        "ftp": ["+4.0 (5)", "1.23× [1.20, 1.30] (5)", "no", "no", "yes", "yes"],
    }
    notes = [line for line in table.splitlines() if line[:1].isdigit()]
    assert [note.split(" ", 1)[0] for note in notes] == ["1.", "2.", "3.", "4.", "5."]
    assert notes[0] == f"1. {WHOLE}"
    assert notes[4] == f"5. {ON_LANGUAGE}"


def test_the_table_takes_the_place_of_the_one_before():
    page = f"# A page\n\n{BEGIN}\n\nold\n\n{END}\n\nMore.\n"
    new = written(page, "| new |")
    assert new == f"# A page\n\n{BEGIN}\n\n| new |\n\n{END}\n\nMore.\n"
    assert written(new, "| new |") == new
    with pytest.raises(ValueError, match="the page has no line '<!-- benchmarks"):
        written("# A page\n", "| new |")


def test_the_page_tells_of_every_method():
    page = (ROOT / "docs" / "methods.md").read_text()
    told, rest = page.split(BEGIN)
    table, _ = rest.split(END)
    assert cells(told).keys() == METHODS.keys()
    assert cells(table).keys() == METHODS.keys()
    for name, (*_, data, labels, _, _) in cells(table).items():
        method = METHODS[name]
        known = [DATA[need] for need in method.needs if need in DATA] if isinstance(method, Trained) else []
        assert data == (", ".join(known) or "no")
        assert labels == ("yes" if known else "no")
    assert " | ".join(HEADER) in table


@pytest.mark.slow
def test_what_a_method_takes_is_measured(tmp_path):
    page, facts = tmp_path / "page.md", tmp_path / "facts.json"
    page.write_text(f"{BEGIN}\n{END}\n")
    options = ["--methods", "ftp", "l2-sp", "--size", "tiny", "--repetitions", "1", "--steps", "1"]
    options += ["--length", "8", "--batch_size", "4", "--device", "cpu", "--write", page, "--output", facts]
    command = [sys.executable, ROOT / "benchmarks" / "methods.py", *options]
    finished = subprocess.run(
        [*map(str, command)], env=launch.environment(), check=False, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    ftp, l2_sp = json.loads(facts.read_text())["rows"]
    assert l2_sp["extra_bytes_per_parameter"] == pytest.approx(4, abs=0.1), "the anchors in float32"
    assert ftp["extra_bytes_per_parameter"] > 4
    assert ftp["ratio"] > 0
    assert (ftp["lora"], ftp["sharded"]) == ("", "")
    assert "holds trained parameters to their pre-trained values, and none has one" in l2_sp["lora"]
    assert WHOLE in l2_sp["sharded"]
    assert cells(page.read_text())["l2-sp"][-2:] == ["no (1)", "no (2)"]
