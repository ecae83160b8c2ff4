"""Checkpoints and comparisons that were written before the package had its folders go on as if nothing had happened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import BertForSequenceClassification

from ftp_hf import projected_optimizer
from ftp_hf.common.records import plain
from ftp_hf.compare import ComparisonConfig, ComparisonResults, compare
from tests.support.workers.finetune_tiny import make_trainer, resume

EARLIER = Path(__file__).parents[1] / "support" / "earlier"


@pytest.fixture
def earlier(tmp_path):
    """A copy of the files that were written then."""
    return shutil.copytree(EARLIER, tmp_path / "earlier")


def adapted(folder):
    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(folder / "pretrained", num_labels=2)
    return get_peft_model(model, LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["query", "value"]))


@pytest.mark.skipif(
    np.__version__ < "2", reason="NumPy 2 saved the random state, which the Trainer loads under NumPy 1 no more"
)
@pytest.mark.parametrize(("run", "learning_rate"), [("dense", 3e-3), ("lora", 1e-2)])
def test_a_run_goes_on_from_its_checkpoint(earlier, run, learning_rate):
    options = {"learning_rate": learning_rate, "ftp_kappa": 0.5, "model": adapted(earlier) if run == "lora" else None}
    trainer = make_trainer(earlier / "pretrained", earlier / run, **options)
    assert resume(trainer) == 4
    weights, expected = trainer.model.state_dict(), load_file(earlier / run / "outcome.safetensors")
    assert expected
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-5, atol=1e-6, msg=name)
    radii = projected_optimizer(trainer.optimizer).radii()
    expected = json.loads((earlier / run / "radii.json").read_text())
    assert radii.keys() == expected.keys()
    for name, radius in expected.items():
        assert tuple(radii[name]) == pytest.approx(radius, rel=1e-4, abs=1e-7), name


@pytest.mark.slow
def test_a_comparison_goes_on_with_what_was_finished(earlier, monkeypatch):
    monkeypatch.chdir(earlier)
    finished = {file: file.read_bytes() for file in Path("begun/runs").glob("*/trained.json")}
    assert len(finished) == 2
    results = compare(ComparisonConfig.load(Path("comparison.yaml")), Path("begun"))
    expected = ComparisonResults.load(Path("expected"))
    assert {file: file.read_bytes() for file in finished} == finished, "they were trained again"
    assert [(run.method, run.setting, run.seed) for run in results.runs] == [
        (run.method, run.setting, run.seed) for run in expected.runs
    ]
    for run, before in zip(results.runs, expected.runs, strict=True):
        for result in run.summary.results:
            result.metrics.pop("hidden_change", None)  # which was not measured then
            result.details.pop("recall_by_class", None)  # nor was this
        assert [plain(result) for result in run.summary.results] == [plain(result) for result in before.summary.results]
        assert (
            run.drift.relative == pytest.approx(before.drift.relative, rel=1e-4) if before.drift else run.drift is None
        )
