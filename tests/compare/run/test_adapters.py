"""Methods with adapters of PEFT, on a model with a new head and on one that can do its task before."""

import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageClassification

from ftp_hf.compare import ComparisonConfig, ComparisonResults, compare
from ftp_hf.compare.run.data import RunData
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run, settings_of
from ftp_hf.compare.run.runner import Runner
from ftp_hf.hub.files import list_run_files
from tests.support.task_comparisons import compare_whole_and_interrupted
from tests.support.tiny_data import image_config, write_config
from tests.support.tiny_language import answers_config

ADAPTED = ["corda", "osf", "kappatune"]
SHORT = {"learning_rate": [1e-2], "seeds": [0]}


def trained_and_evaluated(folder, config, results, name):
    (run,) = results.chosen_runs(name)
    planned = Run(name, settings_of(config, name)[0], 0)
    return Runner(config, folder / "runs").trained.record(planned), run


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTED)
def test_a_language_model_interrupted_or_not(answers, tmp_path, name):
    content = answers_config(answers, methods=[name], **SHORT)
    results = compare_whole_and_interrupted(content, tmp_path)
    config = ComparisonConfig.load(write_config(tmp_path, content))
    trained, evaluated = trained_and_evaluated(tmp_path / "whole", config, results, name)
    # What is loaded onto the pre-trained model is what was trained.
    assert evaluated.value("validation", "loss") == pytest.approx(trained.value("validation", "loss"), abs=1e-6)
    before = {result.data: result for result in results.pretrained}
    assert evaluated.value("id", "loss") < before["test"].metrics["loss"]["0"]
    assert 0 < evaluated.drift.relative < 1


@pytest.mark.slow
def test_a_classifier_with_a_new_head(images, tmp_path):
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=["lora", *ADAPTED], **SHORT)))
    results = compare(config, tmp_path / "out")
    dataset = RunData(config).validation
    pixels, labels = torch.stack([row["pixel_values"] for row in dataset]), [row["label"] for row in dataset]
    counts = {}
    for name in ["lora", *ADAPTED]:
        trained, evaluated = trained_and_evaluated(tmp_path / "out", config, results, name)
        assert evaluated.value("validation", "accuracy") == trained.value("validation", "accuracy")
        assert 0 < evaluated.drift.relative < 1
        counts[name] = evaluated.trainable_parameters
        kept = tmp_path / "out" / evaluated.folder
        assert "README.md" in list_run_files(kept)
        model = AutoModelForImageClassification.from_pretrained(images / "model", id2label={0: "dark", 1: "light"})
        with torch.no_grad():
            found = PeftModel.from_pretrained(model, kept).eval()(pixels).logits.argmax(dim=1)
        assert float((found == torch.tensor(labels)).float().mean()) == evaluated.value("validation", "accuracy")
    assert counts["kappatune"] < counts["corda"] == counts["lora"] < counts["osf"]


@pytest.mark.slow
def test_on_two_processes(images, tmp_path):
    methods = {"plain": {}, "average": {"last": 2}, "corda": {}, "osf": {}}
    file = write_config(tmp_path, image_config(images, methods=methods, **SHORT))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "ftp_hf"]
    command = [*launcher, "compare", str(file), "--output_dir", str(tmp_path / "out")]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr[-2000:]
    results = ComparisonResults.load(tmp_path / "out")
    for name in ("corda", "osf"):
        trained, evaluated = trained_and_evaluated(tmp_path / "out", ComparisonConfig.load(file), results, name)
        assert evaluated.value("validation", "accuracy") == trained.value("validation", "accuracy")
    assert all((tmp_path / "out" / run.folder).is_dir() for run in results.runs)


def test_what_an_adapter_refuses_is_known_before_anything_is_trained(images, tmp_path):
    methods = {"osf": {"effective_rank": -1}, "kappatune": {"top_p": 2}}
    content = image_config(images, methods=methods, **SHORT)
    with pytest.raises(ValueError, match="cannot be trained") as refused:
        Runner(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path / "runs").check()
    said = "\n".join([str(refused.value), *refused.value.__notes__])
    assert "methods: osf cannot be trained: effective_rank must be positive, got -1.0" in said
    assert "methods: kappatune cannot be trained: top_p must lie in (0, 1], got 2.0" in said


def test_only_adapters_have_their_options_in_their_definition(images, tmp_path):
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=["plain", *ADAPTED], **SHORT)))
    other = ComparisonConfig.load(
        write_config(tmp_path, image_config(images, methods=["plain"], lora={"r": 4}, **SHORT))
    )
    for name in ("plain", *ADAPTED):
        run = Run(name, settings_of(config, name)[0], 0)
        assert (run.folder(tmp_path, config) == run.folder(tmp_path, other)) == (not METHODS[name].adapter)
