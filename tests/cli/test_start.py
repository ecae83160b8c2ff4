"""What a process imports to answer at once, and what it imports for nothing."""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "accelerate",
    "bitsandbytes",
    "huggingface_hub",
    "matplotlib",
    "numpy",
    "peft",
    "scipy",
    "torch",
    "transformers",
)

SAY_WHICH = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr))
"""

NO_PEFT = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "peft" else find_spec(name, package)
"""

ONE_STEP = """
from torch import nn, ones
from ftp_hf import FTPTrainer, FTPTrainingArguments

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
    def forward(self, inputs):
        return {"loss": self.linear(inputs).square().mean()}

args = FTPTrainingArguments(sys.argv[1], optim="adamw_torch", max_steps=1, use_cpu=True, save_strategy="no", report_to=[])
trainer = FTPTrainer(Model(), args, train_dataset=[{"inputs": ones(4)}] * 8)
trainer.train()
assert trainer.state.global_step == 1
"""


def modules_after(script, *arguments, status=0):
    """Those that a new process has imported at its end, and the rest of what it said."""
    done = subprocess.run(
        [sys.executable, "-c", SAY_WHICH + script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    *said, modules = done.stderr.splitlines()
    return set(json.loads(modules)), "\n".join([*said, done.stdout])


def command(*words, status=0):
    return modules_after("from ftp_hf.cli import main; sys.exit(main())", *words, status=status)


@pytest.mark.parametrize(
    ("words", "status", "answer"),
    [
        (["--help"], 0, "usage: ftp-hf"),
        (["push", "--help"], 0, "usage: ftp-hf push"),
        (["--version"], 0, "ftp-hf 0."),
        (["comapre", "config.yaml"], 2, "(did you mean 'compare'?)"),
        (["compare", "config.yaml", "--outptu_dir", "out"], 2, "(did you mean '--output_dir'?)"),
    ],
    ids=["help", "help of a command", "version", "command", "option"],
)
def test_what_is_answered_at_once(words, status, answer):
    modules, said = command(*words, status=status)
    assert answer in said
    assert modules.isdisjoint(HEAVY)


def test_rules_are_checked_without_torch(tmp_path):
    (tmp_path / "rules.yaml").write_text("rules: ['id/test >= 0.9']")
    modules, said = command("check", tmp_path, "--rules", tmp_path / "rules.yaml", status=2)
    assert "results.json does not exist" in said
    assert modules.isdisjoint({"bitsandbytes", "peft", "torch", "transformers"})


def test_names_are_imported_when_they_are_asked_for():
    modules, _ = modules_after("import ftp_hf; ftp_hf.__all__, ftp_hf.__version__")
    assert modules.isdisjoint(HEAVY)


@pytest.mark.slow
def test_a_training_imports_no_bitsandbytes(tmp_path):
    """PEFT itself imports bitsandbytes wherever both are installed, and transformers imports PEFT: so without PEFT."""
    modules, _ = modules_after(NO_PEFT + ONE_STEP, tmp_path)
    assert "transformers" in modules
    assert modules.isdisjoint({"bitsandbytes", "peft"})
