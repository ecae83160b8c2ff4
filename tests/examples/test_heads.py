"""The examples with several classes or a number for each text and image, on tiny models; and the data that are made for them."""

import re
import runpy

import pytest
from datasets import Dataset, Features, Image
from numpy import full, uint8, zeros
from numpy.random import default_rng
from PIL import Image as Pictures
from transformers import AutoConfig

from ftp_hf import RunSummary
from ftp_hf.tasks.find import TASKS
from ftp_hf.tasks.specs import DatasetSpec
from tests.support.launch import ROOT, run_here
from tests.support.models import save_bert, save_mobilenet

NUMBERS = ["one", "two", "three", "four", "five", "six"]


def test_requests_come_with_what_they_mention(monkeypatch):
    monkeypatch.chdir(ROOT)
    made = runpy.run_path("examples/tagging/data.py")
    templates = ["Ask {PERSON} on {DATE} or {DATE} .", "no idea , march on i guess"]
    rows = made["make"](8, templates, made["VALUES"], default_rng(0))
    assert rows.features["mentions"].feature.names == ["PERSON", "CITY", "DATE", "MONEY"]
    for words, text, mentions in zip(rows["words"], rows["text"], rows["mentions"], strict=True):
        assert text.split() == words
        assert mentions == ([0, 2] if words[0] == "Ask" else [])
    assert {*map(tuple, rows["mentions"])} == {(), (0, 2)}


def scenes(folder, road=(0.6, 0.2), side=10):
    """Frames of a sequence: of the labelled pixels so much is road, 0.5 % is sign, the rest building; a row is unlabelled."""
    pictures, masks = [], []
    for share in road:
        mask = zeros((side + 1, side * 20), uint8) + 1
        mask[:, : round(share * side * 20)] = 3
        mask[0, -10:] = 6
        mask[side] = 11
        pictures.append(Pictures.fromarray(full((*mask.shape, 3), int(100 * share), uint8)))
        masks.append(Pictures.fromarray(mask))
    features = Features({"image": Image(), "mask": Image()})
    rows = Dataset.from_dict({"image": pictures, "mask": masks}, features)
    for name in ("0016E5", "0006R0", "Seq05VD", "0001TP"):
        split = ["train", "val"] * (len(road) // 2) if name == "0016E5" else ["test"] * len(road)
        rows.add_column("split", split).to_parquet(folder / f"{name}.parquet")


def test_what_is_in_a_frame_is_counted_in_its_mask(monkeypatch, tmp_path):
    scenes(tmp_path)
    run_here(monkeypatch, "examples/camvid/data.py", tmp_path, tmp_path / "out")
    made = {file.stem: DatasetSpec.parse(str(file)).numbered()[0] for file in (tmp_path / "out").iterdir()}
    assert {name: len(rows) for name, rows in made.items()} == {
        "train": 1, "validation": 1, "test": 2, "ood_another_day": 2, "ood_dusk": 2,
    }  # fmt: skip
    test = made["test"]
    assert test["road"][:] == pytest.approx([0.6, 0.2])
    names = test.features["occurring"].feature.names
    assert not {"sky", "road"} & {*names}
    assert [[names[index] for index in row] for row in test["occurring"]] == [["building"], ["building"]], (
        "half a percent of a sign is too little"
    )


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Data for each example, and a model that reads them."""

    def make(script):
        if script == "text_multi_label":
            run_here(monkeypatch, "examples/tagging/data.py", tmp_path / "data")
            return save_bert(tmp_path / "model", words=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "on", "."]), [
                tmp_path / "data" / f"{name}.parquet" for name in ("validation", "validation", "test", "ood_both")
            ]
        if script == "text_regression":
            pairs = {"sentence1": NUMBERS, "sentence2": NUMBERS[::-1], "score": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
            Dataset.from_dict(pairs).to_parquet(tmp_path / "pairs.parquet")
            words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NUMBERS]
            return save_bert(tmp_path / "model", words=words), [tmp_path / "pairs.parquet"] * 4
        scenes(tmp_path, road=(0.6, 0.2, 0.4, 0.1))
        run_here(monkeypatch, "examples/camvid/data.py", tmp_path, tmp_path / "data")
        return save_mobilenet(tmp_path / "model"), [
            tmp_path / "data" / f"{name}.parquet" for name in ("test", "validation", "test", "ood_dusk")
        ]

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "config", "kind", "labels", "told"),
    [
        ("text_multi_label", "mentions_minilm", "multi_label_classification", 4, "f1_micro"),
        ("text_regression", "sts_regression_minilm", "regression", 1, "mae"),
        ("image_multi_label", "camvid_classes_mobilenet", "multi_label_classification", 9, "f1_micro"),
        ("image_regression", "camvid_road_mobilenet", "regression", 1, "mae"),
    ],
)
def test_an_example(script, config, kind, labels, told, made, monkeypatch, tmp_path):
    model, files = made(script)
    flags = ["--config", f"examples/configs/{config}.yaml", "--model", model, "--output_dir", tmp_path / "run"]
    for name, file in zip(("train", "validation", "test", "ood"), files, strict=True):
        flags += [f"--{name}", file]
    flags += ["--max_steps", 2, "--max_eval_samples", 3, "--use_cpu", "true"]
    flags += ["--image_size", 16] if script.startswith("image") else ["--max_length", 16]
    run_here(monkeypatch, f"examples/{script}.py", *flags)
    results = RunSummary.load(tmp_path / "run")
    assert results.task == f"{script.split('_')[0]}-classification"
    assert (results.problem_type, len(results.labels), results.metric) == (kind, labels, told)
    assert results.headline().startswith(f"{told.replace('_', ' ')}: ID ")
    assert AutoConfig.from_pretrained(tmp_path / "run").problem_type == kind


def test_the_examples_of_each_task_are_those_that_the_docs_name():
    table = (ROOT / "docs" / "tasks.md").read_text()
    listed = re.findall(r"\| `([\w/-]+)` \| `(\w+\.py)` \| `(\w+)` \|", table)
    assert {task for task, _, _ in listed} == {*TASKS}
    for task, script, config in listed:
        told = (ROOT / "examples" / script).read_text()
        assert f"examples/configs/{config}.yaml" in told
        assert (ROOT / "examples" / "configs" / f"{config}.yaml").is_file()
        compared = (ROOT / "examples" / "compare" / f"{config}.yaml").read_text()
        assert f"task: {task}\n" in compared
