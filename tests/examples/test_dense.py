"""The examples that tag words and segment images, on tiny models; and the data that are made for them."""

import runpy

import pytest
from datasets import Dataset, Features, Image, load_dataset
from numpy import arange, full, uint8
from numpy.random import default_rng
from PIL import Image as Pictures
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, AutoModelForTokenClassification

from ftp_hf import RunSummary
from ftp_hf.tasks.entities import entities
from tests.support.launch import ROOT, run_here
from tests.support.models import save_bert, save_mobilenet


def test_made_up_sentences_are_tagged_where_their_gaps_were(monkeypatch):
    monkeypatch.chdir(ROOT)
    made = runpy.run_path("examples/tagging/data.py")
    words, tags = made["draw"](["Please ask {PERSON} on {DATE} ."], made["OTHER_VALUES"], default_rng(0))
    found = {kind: " ".join(words[start:end]) for kind, start, end in entities(tags)}
    assert found["PERSON"] in made["OTHER_VALUES"]["PERSON"]
    assert found["DATE"] in made["OTHER_VALUES"]["DATE"]
    assert [word for word, tag in zip(words, tags, strict=True) if tag == "O"] == ["Please", "ask", "on", "."]
    for kind in made["KINDS"]:
        assert not set(made["VALUES"][kind]) & set(made["OTHER_VALUES"][kind]) - {"Florence", "Charlotte"}


@pytest.mark.slow
def test_token_classification(monkeypatch, tmp_path):
    run_here(monkeypatch, "examples/tagging/data.py", tmp_path / "data")
    words = load_dataset("parquet", data_files=str(tmp_path / "data" / "train.parquet"), split="train[:100]")["words"]
    known = sorted({word.lower() for sentence in words for word in sentence})
    model = save_bert(tmp_path / "model", words=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *known])
    flags = ["--config", "examples/configs/tagging_minilm.yaml", "--model", model, "--output_dir", tmp_path / "run"]
    for kind in ("train", "validation", "test", "ood"):
        file = tmp_path / "data" / ("ood_values.parquet" if kind == "ood" else f"{kind}.parquet")
        flags += [f"--{kind}", file]
    flags += ["--max_steps", 2, "--max_eval_samples", 10, "--max_length", 16, "--use_cpu", "true"]
    run_here(monkeypatch, "examples/token_classification.py", *flags)
    results = RunSummary.load(tmp_path / "run")
    assert results.task == "token-classification"
    assert {"f1", "token_accuracy"} <= results.results[1].metrics.keys()
    assert AutoModelForTokenClassification.from_pretrained(tmp_path / "run").config.id2label[1] == "B-PERSON"


@pytest.mark.slow
def test_image_segmentation(monkeypatch, tmp_path):
    picture = Pictures.fromarray(full((8, 16, 3), 1, uint8))
    mask = Pictures.fromarray((arange(128) % 11).reshape(8, 16).astype(uint8))
    features = Features({"image": Image(), "mask": Image()})
    Dataset.from_dict({"image": [picture] * 4, "mask": [mask] * 4}, features).to_parquet(tmp_path / "scenes.parquet")
    flags = ["--config", "examples/configs/camvid_mobilenet.yaml", "--model", save_mobilenet(tmp_path / "model")]
    for kind in ("train", "validation", "test", "ood"):
        flags += [f"--{kind}", tmp_path / "scenes.parquet"]
    flags += ["--output_dir", tmp_path / "run", "--max_steps", 2, "--image_width", 32, "--image_height", 16]
    run_here(monkeypatch, "examples/image_segmentation.py", *flags, "--use_cpu", "true")
    results = RunSummary.load(tmp_path / "run")
    assert results.task == "image-segmentation"
    assert {"mean_iou", "pixel_accuracy"} <= results.results[1].metrics.keys()
    assert AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run").config.id2label[3] == "road"
    assert AutoImageProcessor.from_pretrained(tmp_path / "run").size == {"height": 16, "width": 32}
