"""The examples on several processes: with DDP and FSDP2 they train and evaluate as on one, or say why they would not."""

import sys
from pathlib import Path

import finetuning
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from digits.data import load_split, to_dataset
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from ftp_hf import RunSummary
from ftp_hf.tasks import ImageTask
from tests.support import launch
from tests.support.models import save_bert

EXAMPLES = Path(__file__).parents[2] / "examples"


def accuracy(folder, model, inputs, labels):
    """Of a saved model, in this process."""
    with torch.no_grad():
        predictions = model.from_pretrained(folder)(**inputs).logits.argmax(dim=1)
    return (predictions == torch.tensor(labels)).double().mean().item()


@pytest.mark.slow
def test_image_example_on_two_processes(tmp_path):
    for split in ("train", "test"):
        to_dataset(*load_split(split)).to_parquet(tmp_path / f"{split}.parquet")
    run, train, test = tmp_path / "run", tmp_path / "train.parquet", tmp_path / "test.parquet"
    launch.run(
        EXAMPLES / "image_classification.py",
        *("--config", EXAMPLES / "configs" / "digits_ftp.yaml", "--model", EXAMPLES / "digits" / "vit"),
        *("--train", train, "--validation", train, "--test", test, "--ood", train),
        *("--per_device_train_batch_size", 10, "--max_steps", 20, "--use_cpu", "true", "--output_dir", run),
        processes=2,
    )
    results = RunSummary.load(run)
    images, labels = load_split("test")
    inputs = AutoImageProcessor.from_pretrained(run)([image.convert("RGB") for image in images], return_tensors="pt")
    assert results.steps == 20
    assert results.data_facts("test").size == len(labels) == 600
    assert results.value("test") == accuracy(run, AutoModelForImageClassification, inputs, labels)
    assert results.value("test") > 0.5, "20 steps should beat chance (0.1) by far"


@pytest.fixture
def bert(tmp_path):
    """A tiny encoder and its tokenizer."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "book", "very"]
    return save_bert(tmp_path / "bert", words=words, initializer_range=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["DDP", "FSDP2"])
def test_text_example_on_two_processes(bert, tmp_path, sharded):
    degrees, words, things = ("", "very "), ("bad", "good"), ("film", "book")
    texts = [f"a {degree}{word} {thing}" for degree in degrees for word in words for thing in things] * 5
    labels = [int("good" in text) for text in texts]
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    run, data = tmp_path / "run", tmp_path / "data.parquet"
    Dataset.from_dict({"text": texts, "label": labels}, features).to_parquet(data)
    script = EXAMPLES / "text_classification.py"
    launch.run(
        *(("on_fsdp.py", script) if sharded else (script,)),
        *("--config", EXAMPLES / "configs" / "sst2_minilm.yaml", "--model", bert, "--max_length", 8),
        *("--train", data, "--validation", data, "--test", data, "--ood", data, "--learning_rate", "1e-2"),
        *("--per_device_train_batch_size", 10, "--max_steps", 20, "--use_cpu", "true", "--output_dir", run),
        processes=2,
        config=EXAMPLES / "accelerate" / "fsdp2.yaml" if sharded else None,
    )
    results = RunSummary.load(run)
    inputs = AutoTokenizer.from_pretrained(run)(texts, padding=True, return_tensors="pt")
    assert results.steps == 20
    assert results.data_facts("test").size == len(texts) == 40
    assert results.value("test") == accuracy(run, AutoModelForSequenceClassification, inputs, labels)
    assert results.value("test") > 0.7, "more than chance (0.5)"


def test_examples_refuse_processes_that_would_each_train_alone(tmp_path, monkeypatch, capsys):
    flags = ["--model", "m", "--train", "a", "--test", "b", "--output_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["image_classification.py", *flags])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        finetuning.parse_arguments(finetuning.ScriptArguments, ImageTask)
    assert "launched as 2 processes that would each train alone" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "1")
    finetuning.parse_arguments(finetuning.ScriptArguments, ImageTask)
