"""The examples of language models and of similarity, as a user starts them."""

import subprocess
import sys
from pathlib import Path

import pytest

from ftp_hf import RunSummary
from tests.support.tiny_language import make_answers, make_pairs

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("script", "make", "options", "metrics", "retained"),
    [
        (
            "text_generation",
            make_answers,
            {"max_tokens": 32, "bf16": "false", "generated_answers": 2, "max_new_tokens": 4},
            {"loss", "exact_match"},
            {"plain": {"loss"}, "choices": {"acc_norm", "acc"}},
        ),
        (
            "sentence_similarity",
            make_pairs,
            {"max_length": 12},
            {"spearman", "pearson"},
            {"other": {"spearman", "pearson"}},
        ),
    ],
)
def test_an_example(script, make, options, metrics, retained, tmp_path):
    folder = make(tmp_path)
    flags = {
        "model": folder / "model",
        **{kind: folder / f"{kind}.parquet" for kind in ("train", "validation", "test")},
        "output_dir": tmp_path / "out",
        "max_steps": 2,
        "use_cpu": "true",
        "report_to": "none",
        "save_strategy": "no",
        **options,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    sets = [str(folder / f"{name}.parquet") for name in retained]
    command = [sys.executable, str(EXAMPLES / f"{script}.py"), *words, "--retained", *sets]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    summary = RunSummary.load(tmp_path / "out")
    assert summary.task == script.replace("_", "-")
    assert {result.data: set(result.metrics) for result in summary.results} == {
        **dict.fromkeys(("validation", "test"), metrics),
        **retained,
    }
    assert (tmp_path / "out" / "README.md").is_file()
