"""Data parallelism: two and four processes train the model of one, without a word between them in the optimizer's step."""

import functools
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
from tests.support import launch
from tests.support.models import save_bert

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS, BATCH = 30, 40

several = pytest.mark.parametrize("processes", [2, 4])


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """Number of processes → what each of them ended with. Each number is launched once."""

    @functools.cache
    def run(processes):
        folder = tmp_path_factory.mktemp(f"on{processes}")
        launch.run("finetune.py", "--output", folder, "--steps", STEPS, "--global_batch", BATCH, processes=processes)
        ranks = [torch.load(folder / f"rank{rank}.pt") for rank in range(processes)]
        assert {rank["processes"] for rank in ranks} == {processes}
        return ranks

    return run


@pytest.mark.slow
@several
def test_every_step_saw_the_rows_of_one_process(finetuned, processes):
    (one,), ranks = finetuned(1), finetuned(processes)
    assert len(one["rows"]) == STEPS
    for step, rows in enumerate(one["rows"]):
        shares = [rank["rows"][step] for rank in ranks]
        assert {len(share) for share in shares} == {BATCH // processes}
        assert sorted(row for share in shares for row in share) == sorted(rows)
    assert all(set(rank["items"]) == {BATCH} for rank in [one, *ranks])


@pytest.mark.slow
@several
def test_weights_radii_and_losses_are_those_of_one_process(finetuned, processes):
    (one,), ranks = finetuned(1), finetuned(processes)
    several = ranks[0]
    for actual, expected in zip(several["log"], one["log"], strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)
    assert one["radii"].keys() == several["radii"].keys()
    assert min(one["radii"].values()) > 1e-3, "every radius should have something to compare"
    assert several["radii"] == pytest.approx(one["radii"], rel=1e-5)
    differences = {
        name: ((several["weights"][name] - weight).norm() / weight.norm()).item()
        for name, weight in one["weights"].items()
    }
    assert max(differences.values()) < 2e-6
    for name, anchor in one["anchors"].items():
        assert torch.equal(several["anchors"][name], anchor), name
        assert not torch.equal(anchor, one["weights"][name]), name


@pytest.mark.slow
@several
def test_the_processes_have_the_same_weights_radii_and_anchors_bit_for_bit(finetuned, processes):
    first, *others = finetuned(processes)
    assert len(others) == processes - 1
    for rank in others:
        assert rank["radii"] == first["radii"]
        for part in ("weights", "anchors"):
            torch.testing.assert_close(rank[part], first[part], rtol=0, atol=0)
        assert rank["rows"] != first["rows"]


@pytest.mark.slow
@several
def test_the_optimizers_step_has_no_collectives(finetuned, processes):
    for rank in finetuned(processes):
        assert rank["known_collective"] == ["c10d::allreduce_"], "the counter should see this one"
        assert rank["collectives_of_steps"] == [0] * STEPS


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
        finetuning.parse_arguments(finetuning.ScriptArguments)
    assert "launched as 2 processes that would each train alone" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "1")
    finetuning.parse_arguments(finetuning.ScriptArguments)
