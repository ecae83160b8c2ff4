"""A report, a card and the rules are for machines without a GPU and without torch: they are written quickly, or not at all."""

import json
import subprocess
import sys

import pytest

HEAVY = ("accelerate", "datasets", "peft", "scipy", "sklearn", "torch", "transformers")
WALK = f"""
import importlib, json, pkgutil, sys

heavy, found = {HEAVY!r}, {{}}
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in [package.__name__, *names]:
    importlib.import_module(name)
    found[name] = [library for library in heavy if library in sys.modules]
print(json.dumps(found))
"""


@pytest.mark.parametrize("package", ["ftp_hf.runs", "ftp_hf.cards", "ftp_hf.compare.evidence", "ftp_hf.compare.report"])
def test_no_module_loads_torch(package):
    command = [sys.executable, "-c", WALK, package]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(loaded) > 1
    assert not {module: libraries for module, libraries in loaded.items() if libraries}
