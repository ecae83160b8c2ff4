"""What importing the optimizers costs: no more than torch."""

import subprocess
import sys

import pytest

HEAVY = [
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "huggingface_hub",
    "torch._dynamo",
    "torch.distributed.tensor",
    "sympy",
]
LOADED = f"""
import sys
import torch
before = set(sys.modules)
{{statement}}
print(*sorted(set({HEAVY!r}) & (set(sys.modules) - before)))
"""


@pytest.mark.slow
def test_the_optimizers_load_nothing_heavy():
    statements = ["import ftp_hf.projection", "import ftp_hf.optim", "from ftp_hf import FTP, FTPSGD, FTPAdamW"]
    command = [sys.executable, "-c", LOADED.format(statement="; ".join(statements))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == []
