"""What a person reads who named the wrong thing: all of it, in a line each."""

import logging
import re
import sys

import pytest
from datasets import Dataset, Image
from peft import LoraConfig, get_peft_model

from ftp_hf.cli import main
from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.comparison import take_part
from ftp_hf.compare.run.data import RunData
from ftp_hf.compare.run.folder import TRAINED
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.runner import Runner
from ftp_hf.runs.facts import PRETRAINED
from ftp_hf.tasks import TaskData
from ftp_hf.tasks.model_folder import check_model_folder
from ftp_hf.tasks.specs import DatasetSpec
from tests.support.damage import DAMAGED, cut
from tests.support.tiny_data import image_config, write_config

BAD = {
    "metod": 1,
    "train": 5,
    "learning_rate": [0],
    "seeds": 3,
    "methods": {"ftp": {"kapa": 1, "kappa": "much"}, "magic": {}, "lp-ft": {}},
    "metric": "f1",
    "rules": ["ood mean >= 0.5"],
    "training": {"num_epochs": 1, "seed": 1, "num_train_epochs": 0},
}
FAULTS = [
    "unknown key 'metod'",
    "train must be a text, got 5",
    "learning_rate must be positive, got [0]",
    "seeds must be a list of different integers",
    "unknown key of methods: ftp: 'kapa'",
    "methods: ftp: kappa must be a number",
    "unknown method 'magic'",
    "method 'lp-ft' builds on 'linear-probe'",
    "metric must be one of",
    "training: seed cannot be set there",
    "unknown key of training: 'num_epochs'",
    "training: num_train_epochs must be positive",
    "rules: the rule 'ood mean >= 0.5' is about 'ood mean', which is no quantity",
]


def test_all_that_is_wrong_with_a_config_is_said_at_once(images, tmp_path, capsys):
    file = write_config(tmp_path, image_config(images, **BAD))
    assert main(["compare", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(FAULTS)
    for fault in FAULTS:
        assert [line.startswith(f"ftp-hf compare: {file}: {fault}") for line in lines].count(True) == 1, fault
    with pytest.raises(ValueError, match="unknown key 'metod'") as raised:
        ComparisonConfig.load(file)
    assert len(raised.value.__notes__) == len(FAULTS) - 1


def test_a_value_of_the_wrong_type_has_no_errors_that_follow_from_it(images, tmp_path):
    content = image_config(images, ood="pale.parquet", rules=["ood/pale >= 0.5"], learning_rate="fast")
    with pytest.raises(ValueError, match="ood must be a list of texts") as raised:
        ComparisonConfig.load(write_config(tmp_path, content))
    (other,) = raised.value.__notes__
    assert other.endswith("learning_rate must be a number or a list of numbers, got 'fast'")


def test_a_key_that_is_there_twice_is_no_config(images, tmp_path):
    file = write_config(tmp_path, image_config(images))
    file.write_text(f"seeds: [7]\n{file.read_text()}")
    with pytest.raises(ValueError, match=rf"{file} .*the key 'seeds' is in line 1 and in line \d+: delete one"):
        ComparisonConfig.load(file)


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder: name the YAML file"):
        ComparisonConfig.load(tmp_path)


@pytest.fixture
def runner(images, tmp_path):
    content = image_config(images, methods=["plain", "lora"], seeds=[0])
    return Runner(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path / "runs")


@pytest.mark.parametrize("content", [*DAMAGED, b"{}"])
def test_damaged_files_of_a_run_are_named(content, runner):
    before, plain = Run(PRETRAINED, {}, 0), Run("plain", {"learning_rate": 1e-3}, 0)
    trained = runner.trained.folder(plain) / TRAINED
    evaluated, measured = (run.evaluation_file(runner.runs, runner.config) for run in (plain, before))
    for file, read, again in [
        (trained, lambda: runner.train(plain), "the run is trained"),
        (evaluated, lambda: runner.evaluate(plain), "the run is evaluated"),
        (measured, runner.pretrained, "the pre-trained model is evaluated"),
    ]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{file} is damaged: .+; delete it, and {again} again$"):
            read()


@pytest.mark.parametrize("method", ["plain", "lora"])
def test_damaged_weights_of_a_run_are_named(method, runner):
    run = Run(method, {"learning_rate": 1e-3}, 0)
    folder, model = runner.trained.folder(run), runner.data.task.load_model()
    if method == "lora":
        model = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    model.save_pretrained(folder)
    (weights,) = folder.glob("*.safetensors")
    cut(weights)
    with pytest.raises(ValueError, match=rf"^{folder} is damaged: .+; delete it, and the run is trained again$"):
        runner.trained.load(run)


def test_damaged_weights_of_an_epoch_are_named(runner):
    base = Run("plain", {"learning_rate": 1e-3}, 0)
    folder = runner.trained.folder(base)
    for epoch in ("1", "2"):
        runner.data.task.load_model().save_pretrained(folder / "_epochs" / epoch)
    weights = folder / "_epochs" / "2" / "model.safetensors"
    cut(weights)
    with pytest.raises(ValueError, match=rf"^{folder} is damaged: {weights} is cut short .+ the run is trained again$"):
        runner.averaged.load(Run("average", {"last": 2}, 0, base=base))


@pytest.mark.parametrize(("rank", "waited"), [("0", []), ("1", [10.0])])
def test_other_processes_wait_for_the_first_to_speak_and_end_them(tmp_path, capsys, monkeypatch, rank, waited):
    waits = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(
        "ftp_hf.common.launched.time.sleep", lambda seconds: waits.append((seconds, capsys.readouterr().err))
    )
    assert main(["compare", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err, "it may be wrong in this process alone"
    with pytest.raises(SystemExit, match="2"):
        main(["compare", str(tmp_path), "--outptu_dir", "out"])
    assert "usage" in capsys.readouterr().err
    assert waits == [(seconds, "") for seconds in waited] * 2


@pytest.mark.parametrize("is_new", [True, False], ids=["new-head", "pre-trained-can-do-it"])
def test_a_task_that_returns_percent_is_refused_before_a_run_has_finished(images, tmp_path, monkeypatch, is_new):
    config = image_config(images, methods=["plain"], learning_rate=[1e-2], seeds=[0])
    config["training"]["max_steps"] = 2
    config = ComparisonConfig.load(write_config(tmp_path, config))
    monkeypatch.setattr(config.task_class, "compute_metrics", lambda *_: {"accuracy": 87.0})
    if not is_new:
        monkeypatch.setattr("ftp_hf.compare.run.runner.new_parameters", lambda _: set())
    where = (
        "Plain fine-tuning, learning rate 0.01, seed 0, validation data"
        if is_new
        else "pre-trained, seed 0, validation data"
    )
    with pytest.raises(ValueError, match=f"(?i){where}.*: accuracy is 87, .*: it is a share of 1, so return 0.87 if"):
        compare(config, tmp_path / "out")
    assert not [*(tmp_path / "out").rglob(TRAINED), *(tmp_path / "out").rglob("checkpoint-*")]
    assert not [*(tmp_path / "out").rglob("evaluated-*.json")] or is_new


@pytest.mark.parametrize("name", ["results.json", "rules.yaml"])
@pytest.mark.parametrize("run", [compare, take_part])
def test_what_is_of_something_else_is_refused_before_anything_is_trained(images, tmp_path, name, run):
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, rules=["id/test >= 0.5"])))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text("{}")
    with pytest.raises(FileExistsError, match=f"{folder / name} .*name another output_dir"):
        run(config, folder)
    assert [*folder.iterdir()] == [folder / name]


def empty_table(file):
    Dataset.from_dict({"label": []}).to_parquet(file)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.parquet", lambda file: file.write_bytes(b""), "data set 'a' is empty: .*has no bytes"),
        ("a.csv", lambda file: file.write_bytes(b""), "data set 'a' is empty"),
        ("a.json", lambda file: file.write_bytes(b""), "data set 'a' is empty"),
        ("a.csv", lambda file: file.write_text("text,label\n"), "cannot be loaded from .*a.csv: it has no rows"),
        ("a.parquet", empty_table, "it has no rows|is empty"),
        ("a.parquet", lambda file: file.write_bytes(b"nonsense"), "cannot be loaded .* not a parquet file"),
        (
            "a.csv",
            lambda file: file.write_text("a,b\n1,2\n1,2,3,4\n"),
            "cannot be loaded .* Expected 2 fields in line 3",
        ),
        (
            "a.csv",
            lambda file: file.write_text("text\nfür\n", "cp1252"),
            "cannot be loaded .* byte 0xfc .*: save it as UTF-8",
        ),
        ("a.json", lambda file: file.write_text("{nonsense"), "cannot be loaded .* JSON parse error"),
    ],
)
def test_files_without_usable_rows_are_named(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        DatasetSpec.parse(str(tmp_path / name)).numbered()[0]


def test_a_folder_that_is_called_as_a_file(tmp_path):
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a\.parquet is a folder"):
        DatasetSpec.parse(str(tmp_path / "a.parquet")).numbered()[0]


def test_everything_that_cannot_be_read_is_said_at_once(images, tmp_path, capsys):
    (tmp_path / "empty.parquet").touch()
    gone, empty = str(tmp_path / "gone.parquet"), str(tmp_path / "empty.parquet")
    content = image_config(images, train=gone, test=empty, ood=["other.csv", str(tmp_path)], model=str(tmp_path / "no"))
    file = write_config(tmp_path, content)
    assert main(["compare", str(file), "--output_dir", str(tmp_path / "out")]) == 1
    lines = capsys.readouterr().err.splitlines()
    faults = [
        "train: data set 'gone': .* does not exist",
        "test: data set 'empty' is empty",
        "ood: data set 'other': other.csv does not exist",
        f"ood: data set '{tmp_path.name}' cannot be loaded from ",
        "model: '.*/no' cannot be read: the folder .*/no does not exist",
    ]
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert re.match(f"ftp-hf compare: {re.escape(str(file))}: {fault}", line)
    assert not (tmp_path / "out" / "runs").exists()


def test_data_sets_with_other_labels_or_columns_are_said_at_once(images, tmp_path):
    Dataset.from_dict({"label": [5, 0]}).to_parquet(tmp_path / "five.parquet")
    Dataset.from_dict({"image": [b"", b""]}).to_parquet(tmp_path / "none.parquet")
    ood = [str(images / "pale.parquet"), *(str(tmp_path / f"{name}.parquet") for name in ("five", "none"))]
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, ood=ood)))
    with pytest.raises(ValueError, match="ood: data set 'five' has the labels") as raised:
        TaskData.load(config)
    assert raised.value.__notes__ == [
        "ood: no column 'label' in data set 'none' with the columns ['image']: name it in label_column"
    ]


def test_a_row_is_named_as_in_its_file(images, tmp_path):
    rows = Dataset.from_parquet(str(images / "train.parquet")).cast_column("image", Image(decode=False))
    damaged = {"bytes": b"none", "path": None}
    files = [damaged if row == 3 else file for row, file in enumerate(rows["image"])]
    Dataset.from_dict({"image": files, "label": rows["label"]}, rows.features).to_parquet(tmp_path / "train.parquet")
    content = image_config(images, train=str(tmp_path / "train.parquet"), validation=None, validation_fraction=0.25)
    with pytest.raises(
        ValueError, match=r"^(train|validation): row 3 of data set '\1' has an image in 'image' that cannot"
    ):
        RunData(ComparisonConfig.load(write_config(tmp_path, content)))


def test_a_hub_that_does_not_answer_is_said_once(images, tmp_path, capsys, monkeypatch):
    asked = []

    def load_dataset(source, *_, **__):
        asked.append(source)
        client = logging.getLogger("huggingface_hub.utils._http")
        client.warning("'[Errno -2] Name or service not known' thrown while requesting HEAD https://huggingface.co")
        client.warning("Retrying in 1s [Retry 1/5].")
        client.warning("Rate limited. Waiting 9s before retry [Retry 1/5].")
        raise ConnectionError(f"Couldn't reach {source!r} on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr("ftp_hf.tasks.specs.load_dataset", load_dataset)
    heard = logging.StreamHandler()
    logging.getLogger("huggingface_hub").addHandler(heard)
    monkeypatch.setattr(heard, "stream", sys.stderr)
    file = write_config(tmp_path, image_config(images, train="someone/set", test="someone/other#test"))
    try:
        assert main(["compare", str(file), "--output_dir", str(tmp_path / "out")]) == 1
    finally:
        logging.getLogger("huggingface_hub").removeHandler(heard)
    waiting, line = capsys.readouterr().err.splitlines()
    assert waiting.startswith("Rate limited"), "a long wait is told"
    assert line.startswith(
        f"ftp-hf compare: {file}: train: data set 'set' cannot be loaded from someone/set: Couldn't reach"
    )
    assert line.endswith("Check the connection, or name a local file")
    assert asked == ["someone/set"], "it takes half a minute each time"


def test_a_model_that_is_not_there_is_no_name_on_the_hub(tmp_path, images):
    (tmp_path / "file").touch()
    for name, message in [
        (tmp_path / "gone", "the folder .*gone does not exist"),
        ("./gone", "the folder ./gone does not exist"),
        ("runs/compare/gone", "the folder runs/compare/gone does not exist"),
        (tmp_path, "holds no model: it has no config.json"),
        (tmp_path / "file", "is a file, not the folder of a model"),
    ]:
        with pytest.raises(FileNotFoundError, match=message):
            check_model_folder(str(name))
    for name in ("bert-base-uncased", "google/vit-base-patch16-224", str(images / "model")):
        check_model_folder(name)
    (tmp_path / "adapter_config.json").touch()
    check_model_folder(str(tmp_path))
