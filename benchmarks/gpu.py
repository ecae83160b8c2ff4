"""
All that wants a GPU, in one command and about eight minutes: the tests that need one, then the time, the launches and the memory of
a step, and whole training steps of a ViT-B and of a language model of 1.1 billion parameters.

    python benchmarks/gpu.py --output build/gpu

Everything goes to one folder: a log and a JSON file for each part, and `summary.txt` with what each came to. A part that fails or
takes too long is noted, and the others go on. It asks for nothing beside PyTorch, transformers, accelerate, pytest and what
`ftp_hf` itself imports, and fetches nothing; where even that is missing and there is no network,
`pip install --target build/gpu_kit lazy-loader shtab rich` on another machine makes a folder for `PYTHONPATH`.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
CONTESTANTS = (
    "adamw_foreach",
    "ftp",
    "ftp_bf16_anchors",
    "ftp_bf16_weights",
    "ftp_without_masters",
    "ftp_host_anchors",
)


def parts(device: str, out: Path, repetitions: int) -> dict[str, list[str]]:
    """Name → arguments for Python."""

    def benchmark(name: str, script: str, *options: str) -> list[str]:
        return [f"benchmarks/{script}.py", *options, "--device", device, "--output", str(out / f"{name}.json")]

    rounds = ("--repetitions", str(repetitions))
    return {
        "tests": [
            "-m",
            "pytest",
            "-q",
            "-m",
            "gpu",
            "-p",
            "no:cacheprovider",
            "tests/projection",
            "tests/trainer/test_data_parallel.py",
        ],
        "step": benchmark("step", "step", "--models", "vit_b", "--contestants", *CONTESTANTS, "--skip_first", *rounds),
        "memory": benchmark("memory", "memory", "--contestants", "adamw_fused", *CONTESTANTS, "--repetitions", "1"),
        "vit_b": benchmark("vit_b", "whole_step", "--models", "vit_b", *rounds),
        "llama_1b": benchmark("llama_1b", "whole_step", "--models", "llama_1b", *rounds),
        "step_1b": benchmark(
            "step_1b",
            "step",
            "--models",
            "llama_1b",
            "--contestants",
            "ftp_bf16_weights",
            "--pairwise",
            "--skip_first",
            *rounds,
        ),
    }


def run(name: str, arguments: list[str], out: Path, limit: float) -> str:
    """One part, and what it came to in a line."""
    started = time.monotonic()
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (out / f"{name}.log").open("w") as log:
        try:
            code = subprocess.run(  # noqa: S603
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    came_to = {0: "done", None: f"stopped after {limit:.0f} s"}.get(code, f"failed ({code})")
    return f"{name}: {came_to}, {time.monotonic() - started:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/gpu"), help="folder (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="(default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=10, help="timed rounds (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=180, help="seconds for each part (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", help="only these: tests step memory vit_b llama_1b step_1b")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU here")
    out = options.output.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = parts(options.device, out, options.repetitions)
    lines = []
    for name in options.parts or chosen:
        lines.append(run(name, chosen[name], out, options.limit))
        print(lines[-1], flush=True)
        (out / "summary.txt").write_text("\n".join(lines) + "\n")
    sys.exit(any("done" not in line for line in lines))


if __name__ == "__main__":
    main()
