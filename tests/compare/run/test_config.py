"""Configs are refused before anything is trained, with the file, the key and what is allowed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Value, load_dataset

from ftp_hf.cli import main
from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run, settings_of
from ftp_hf.compare.run.runner import Runner
from ftp_hf.tasks import DataOptions, TaskData
from tests.support.tiny_data import image_config, write_config

EXAMPLES = Path(__file__).parents[3] / "examples" / "compare"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["plain", "magic"]}, "unknown method 'magic'. Allowed: plain, small-lr, linear-probe, lp-ft"),
        ({"methods": {"ftp": {"kapa": 1}}}, "unknown key of methods: ftp: 'kapa' (did you mean 'kappa'?)"),
        (
            {"methods": {"ftp": {"kappa": "much"}}},
            "methods: ftp: kappa must be a number or a list of numbers, got 'much'",
        ),
        (
            {"methods": {"wise-ft": {"learning_rate": 1}, "plain": {}}},
            "unknown key of methods: wise-ft: 'learning_rate'",
        ),
        ({"methods": ["lp-ft"]}, "'lp-ft' builds on 'linear-probe': add it to methods"),
        ({"methods": []}, "methods must be a list of names"),
        (
            {"methods": {"plain": None, "ftp": False}},
            "methods: ftp must be a mapping of settings to values, got False: to leave a method out, delete it",
        ),
        ({"methods": {"plain": []}}, "methods: plain must be a mapping of settings to values, got []"),
        ({"metod": ["plain"]}, "unknown key 'metod' (did you mean 'methods'?). Allowed: classifier_dropout"),
        ({"max_length": 8}, "unknown key 'max_length'"),
        ({"task": ["captioning"]}, "or MODULE:CLASS of your own, got ['captioning']"),
        ({"task": "captioning"}, "or MODULE:CLASS of your own, got 'captioning'"),
        ({"task": "text-clasification"}, "got 'text-clasification' (did you mean 'text-classification'?)"),
        ({"task": "nowhere.at_all:Task"}, "there is no module 'nowhere' in the working directory"),
        (
            {"task": "ftp_hf.tasks:DataOptions"},
            "ftp_hf.tasks has no class 'DataOptions' that inherits ftp_hf.tasks.Task",
        ),
        ({"train": None}, "train must be given"),
        ({"validation": None}, "give either validation or validation_fraction"),
        ({"validation_fraction": 0.1}, "give either validation or validation_fraction"),
        ({"seeds": [0, 0]}, "seeds must be a list of different integers"),
        ({"seeds": 3}, "seeds must be a list of different integers"),
        ({"seeds": [0, 2**32]}, "seeds must be a list of different integers from 0 to 4294967295"),
        ({"learning_rate": [1e-3, 1e-3]}, "learning_rate has a value twice"),
        ({"learning_rate": []}, "learning_rate must be a number or a list of numbers"),
        ({"metric": "f1"}, "metric must be one of accuracy, balanced_accuracy, got 'f1'"),
        ({"max_eval_samples": 0}, "max_eval_samples must be positive, got 0"),
        ({"image_size": 0}, "image_size must be positive, got 0"),
        ({"image_size": "big"}, "image_size must be a whole number, got 'big'"),
        ({"random_flip": "maybe"}, "random_flip must be true or false, got 'maybe'"),
        ({"train_fraction": "1e-1"}, "train_fraction must be a number, got '1e-1'; in YAML 1e-3 is a text"),
        ({"train": 5}, "train must be a text, got 5"),
        ({"lora": 5}, "lora must be a mapping, got 5"),
        ({"learning_rate": [1e-3, 0]}, "learning_rate must be positive, got [0.001, 0]"),
        ({"num_train_epochs": [1, -3]}, "num_train_epochs must be positive, got [1, -3]"),
        (
            {"methods": {"plain": {"num_train_epochs": 3}}},
            "methods: plain: num_train_epochs must be given for all methods, beside learning_rate",
        ),
        ({"num_train_epochs": [1, 3]}, "training: num_train_epochs cannot be set there beside num_train_epochs"),
        (
            {"num_train_epochs": [1, 3], "training": {"max_steps": 3}},
            "training: max_steps cannot be set there beside num_train_epochs",
        ),
        ({"methods": {"plain": {"learning_rate": -1}}}, "methods: plain: learning_rate must be positive, got -1"),
        ({"ood": "a"}, "ood must be a list of texts, got 'a'"),
        ({"corruptions": {"kinds": ["fogg"]}}, "corruptions: kinds must be 'all' or a list of"),
        ({"corruptions": {"severities": [6]}}, "corruptions: severities must be a list of"),
        ({"corruptions": {"kind": "all"}}, "unknown key of corruptions: 'kind' (did you mean 'kinds'?)"),
        ({"rules": "ood_mean >= 0.5"}, "rules must be a list of texts, or the name of a file of them in"),
        ({"rules": ["ood mean >= 0.5"]}, "rules: the rule 'ood mean >= 0.5' is about 'ood mean', which is no quantity"),
        ({"rules": ["ood/dark >= 0.5"]}, "rules: 'ood/dark >= 0.5' cannot be checked: there is no set ood/dark, only"),
        ({"rules": ["kl/retained <= 0.1"]}, "cannot be checked: there is no retained set, only"),
        ({"rules": ["kl/ood:accuracy <= 0.1"]}, "compares twice: kl is a distance to the pre-trained model already"),
        ({"corruptions": {"seed": "x"}}, "corruptions: seed must be a whole number, got 'x'"),
        ({"training": {"seed": 1}}, "training: seed cannot be set there"),
        ({"training": {"parallelism_config": {"tp_size": 2}}}, "training: parallelism_config cannot be set there"),
        ({"training": {"disable_tqdm": True}}, "training: disable_tqdm cannot be set there"),
        (
            {
                "training": {
                    "prediction_loss_only": True,
                    "label_names": ["labels"],
                    "eval_do_concat_batches": False,
                    "predict_with_generate": False,
                }
            },
            "training: eval_do_concat_batches, label_names, predict_with_generate, prediction_loss_only cannot be set there",
        ),
        (
            {"training": {"train_sampling_strategy": "by_length"}},
            "training: train_sampling_strategy must be one of random, sequential, group_by_length",
        ),
        ({"training": {"log_level": "loud"}}, "training: log_level must be one of "),
        ({"training": {"num_train_epochs": "three"}}, "training: num_train_epochs must be a number, got 'three'"),
        ({"training": {"num_train_epochs": 0}}, "training: num_train_epochs must be positive, got 0"),
        ({"training": {"num_epochs": 1}}, "unknown key of training: 'num_epochs'"),
        ({"training": {"max_steps": 0}}, "training: max_steps must be positive, or -1 for num_train_epochs, got 0"),
        (
            {"training": {"gradient_accumulation_steps": -2}},
            "training: gradient_accumulation_steps must be positive, got -2",
        ),
        ({"training": {"eval_accumulation_steps": 0}}, "training: eval_accumulation_steps must be positive, got 0"),
        ({"training": {"dataloader_num_workers": -1}}, "training: dataloader_num_workers must be at least 0, got -1"),
        (
            {"training": {"label_smoothing_factor": 1.0}},
            "training: label_smoothing_factor must be at least 0 and below 1, got 1.0",
        ),
        ({"training": {"bf16_full_eval": True}}, "training: bf16_full_eval must be left out, "),
        ({"training": {"fp16_full_eval": True}}, "(bf16: true computes in bfloat16), got True"),
    ],
)
def test_bad_configs_are_refused(images, tmp_path, changes, message):
    file = write_config(tmp_path, image_config(images, **changes))
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        ComparisonConfig.load(file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("validation", "{images}/test.parquet", "validation and test name the same data"),
        ("train", "other={images}/test.parquet", "train and test name the same data"),
        ("ood", ["{images}/test.parquet"], "test and ood name the same data"),
        ("train", "{images}/./test.parquet", "train and test name the same data"),
        ("train", "{images}/../{images.name}/test.parquet", "train and test name the same data"),
        ("train", "{images}/test.parquet?label=1", "train and test name the same data"),
        ("validation", "{images}/test.parquet?label=1", "validation and test name the same data"),
    ],
)
def test_no_data_is_trained_on_or_chosen_by_and_tested_on(images, tmp_path, key, text, message):
    filled = [item.format(images=images) for item in text] if isinstance(text, list) else text.format(images=images)
    with pytest.raises(ValueError, match=message):
        ComparisonConfig.load(write_config(tmp_path, image_config(images, **{key: filled})))
    halves = {"train": f"{images}/a.parquet?split=train", "test": f"{images}/a.parquet?split=test"}
    ComparisonConfig.load(write_config(tmp_path, image_config(images, **halves)))


def test_keys_without_a_value_are_as_if_they_were_left_out(images, tmp_path):
    file = tmp_path / "trial.yaml"
    write_config(tmp_path, image_config(images, training=None))
    left_out = ComparisonConfig.load(file)
    file.write_text(file.read_text() + "training:\ncorruptions:\n")
    assert ComparisonConfig.load(file) == left_out


def relabelled(images, file, names):
    data = load_dataset("parquet", data_files=str(images / "pale.parquet"), split="train")
    data.cast_column("label", ClassLabel(names=names)).to_parquet(file)


def of_one_class(images, file):
    data = load_dataset("parquet", data_files=str(images / "pale.parquet"), split="train")
    data.filter(lambda row: row["label"] == 1).to_parquet(file)


def empty(images, file):
    data = load_dataset("parquet", data_files=str(images / "pale.parquet"), split="train")
    Dataset.from_dict({name: [] for name in data.column_names}, data.features).to_parquet(file)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (None, {"ood": ["{file}"]}, "bad.parquet does not exist"),
        (
            None,
            {"train": "{images}/train.parquet#dev"},
            "train: {images}/train.parquet is a file and has no split 'dev'",
        ),
        (of_one_class, {"ood": ["{file}"]}, "ood: data set 'bad' has a single class (1)"),
        (empty, {"ood": ["{file}"]}, "ood: data set 'bad' cannot be loaded"),
        (
            lambda i, f: relabelled(i, f, ["light", "dark"]),
            {"validation": "{file}"},
            "validation: data set 'validation' has the labels ['light', 'dark'], but the training data has",
        ),
        (lambda i, f: relabelled(i, f, ["light", "dark"]), {"ood": ["{file}"]}, "if they mean the same, say so"),
        (None, {"label_aliases": ["pale"]}, "label_aliases: 'pale' is not of the form OTHER=LABEL"),
        (None, {"label_column": "image"}, "train: the column 'image' must hold class indices from 0 on"),
        (None, {"model": "{images}/nowhere"}, "model: '{images}/nowhere' cannot be read"),
        (None, {"image_column": "picture"}, "no column 'picture'"),
        (None, {"label_column": "class"}, "no column 'class' in the training data with the columns"),
        (None, {"train": "{images}#dev"}, "cannot be loaded from"),
        (None, {"methods": {"ftp": {"kappa": [1, 2]}}}, "methods: ftp cannot be trained: kappa must lie in [0, 1]"),
        (None, {"methods": {"plain": {}, "wise-ft": {"alpha": [0.5, 2]}}}, "methods: wise-ft cannot be trained: alpha"),
        (None, {"methods": {"tpgm": {"interval": [1, 1.5]}}}, "interval must be a whole number, got 1.5"),
        (
            None,
            {"training": {"use_cpu": True, "lr_scheduler_kwargs": {"foo": 1}}},
            "methods: plain, ftp cannot be trained: training: lr_scheduler_kwargs: get_linear_schedule_with_warmup() got",
        ),
        *(
            (
                None,
                {"training": {"use_cpu": True, "eval_delay": 2.5, **length}},
                f"plain, ftp cannot be trained: training: eval_delay of 2.5 leaves no evaluation, as the training has {epochs} epochs",
            )
            for length, epochs in (({"num_train_epochs": 2}, "2"), ({"max_steps": 3}, "0.75"))
        ),
    ],
)
def test_bad_data_is_refused_by_the_command(images, tmp_path, capsys, make, changes, message):
    bad = tmp_path / "bad.parquet"
    if make is not None:
        make(images, bad)
    text = {"file": bad, "images": images}
    filled = {
        key: [item.format(**text) for item in value]
        if isinstance(value, list)
        else value.format(**text)
        if isinstance(value, str)
        else value
        for key, value in changes.items()
    }
    file = write_config(tmp_path, image_config(images, **filled))
    assert main(["compare", str(file), "--output_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert message.format(**text) in error
    assert not list((tmp_path / "out").glob("runs/*/*.json"))


def test_integer_labels_are_split_by_class(images, tmp_path):
    # Of CSV files there are no others.
    for name in ("train", "test"):
        data = load_dataset("parquet", data_files=str(images / f"{name}.parquet"), split="train")
        data.cast_column("label", Value("int64")).to_parquet(tmp_path / f"{name}.parquet")
    options = DataOptions(str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet"), validation_fraction=0.25)
    data = TaskData.load(options)
    assert data.labels == ["0", "1"]
    assert sorted(data.validation["label"]) == [0] * 4 + [1] * 4


@pytest.mark.slow
def test_a_missing_package_is_named_with_its_remedy(images, tmp_path):
    file = write_config(tmp_path, image_config(images))
    script = "import sys; sys.modules['datasets'] = None; from ftp_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "compare", str(file), "--output_dir", str(tmp_path / "out")]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 1
    assert 'pip install "ftp-hf[compare]"' in finished.stderr
    assert "Traceback" not in finished.stderr


def test_settings_are_all_combinations(images, tmp_path):
    methods = {"plain": None, "l2-sp": {"alpha": [0.1, 1.0]}, "wise-ft": {"alpha": 0.5}}
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=methods)))
    assert settings_of(config, "plain") == [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]
    assert [(s["learning_rate"], s["alpha"]) for s in settings_of(config, "l2-sp")] == [
        (1e-3, 0.1),
        (1e-3, 1.0),
        (1e-2, 0.1),
        (1e-2, 1.0),
    ]
    assert settings_of(config, "wise-ft") == [{"alpha": 0.5}]


def test_lengths_are_tried_with_each_rate_by_the_methods_that_train(images, tmp_path):
    methods = {"plain": None, "ftp": {"num_train_epochs": 2, "learning_rate": 1e-2}, "wise-ft": {"alpha": 0.5}}
    content = image_config(images, methods=methods, num_train_epochs=[1, 0.5], training={})
    config = ComparisonConfig.load(write_config(tmp_path, content))
    rates_and_lengths = [(1e-3, 1), (1e-3, 0.5), (1e-2, 1), (1e-2, 0.5)]
    assert [tuple(setting.values()) for setting in settings_of(config, "plain")] == rates_and_lengths
    assert config.methods["ftp"].items() >= {"learning_rate": [1e-2], "num_train_epochs": [2]}.items()
    assert config.methods["wise-ft"] == {"alpha": [0.5]}


@pytest.mark.parametrize("name", ["plain", "l2-sp", "ftp"])
def test_a_length_is_that_of_the_training_and_no_option_of_the_method(images, tmp_path, name):
    content = image_config(images, methods={"plain": {}, name: {}}, num_train_epochs=[5], training={"use_cpu": True})
    config = ComparisonConfig.load(write_config(tmp_path, content))
    (setting, *_) = settings_of(config, name)
    trainer = Runner(config, tmp_path / "runs").trained.make_trainer(Run(name, setting, 0), tmp_path / "run")
    assert (trainer.args.num_train_epochs, trainer.args.learning_rate) == (5, 1e-3)


def load_methods(images, folder, methods, given):
    return ComparisonConfig.load(write_config(folder, image_config(images, methods=given)), methods=methods)


def test_methods_take_the_place_of_those_of_the_config(images, tmp_path):
    given = {"plain": {"learning_rate": 1e-4}, "wise-ft": {"alpha": 0.5}, "l2-sp": None}
    config = load_methods(images, tmp_path, ["ftp", "plain", "wise-ft"], given)
    assert config.methods == {
        "ftp": {"learning_rate": [1e-3, 1e-2], "kappa": [1.0], "radius_lr": [1e-2]},
        "plain": {"learning_rate": [1e-4]},
        "wise-ft": {"alpha": [0.5]},
    }
    by_list = load_methods(images, tmp_path, ["plain"], ["plain", "ftp"])
    assert by_list.methods == {"plain": {"learning_rate": [1e-3, 1e-2]}}
    assert load_methods(images, tmp_path, ["plain"], None) == by_list


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["plain", "fpt"], "unknown method 'fpt' (did you mean 'ftp'?). Allowed: plain,"),
        (["plain", "captioning"], "unknown method 'captioning'. Allowed: plain,"),
        (["ftp", "wise-ft"], "method 'wise-ft' builds on 'plain': add it to methods"),
    ],
)
def test_methods_that_cannot_take_their_place(images, tmp_path, methods, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_methods(images, tmp_path, methods, ["plain", "ftp"])


def test_every_method_names_settings_that_its_trainer_has(images, tmp_path):
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=list(METHODS))))
    assert list(config.methods) == list(METHODS)


def test_runs_are_found_again_by_what_defines_them(images, tmp_path):
    def folder(**changes):
        config = ComparisonConfig.load(write_config(tmp_path, image_config(images, **changes)))
        return Run("plain", {"learning_rate": 1e-3}, 0).folder(tmp_path, config)

    assert folder(methods=["plain"], seeds=[0, 1, 2], learning_rate=[1e-3], ood=[]) == folder()
    assert folder(rules=["id/test >= 0.9"]) == folder()
    assert folder(training={"num_train_epochs": 3}) != folder()
    assert folder(train_fraction=0.5) != folder()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_are_valid(file):
    config = ComparisonConfig.load(file, model="any")
    assert {"plain", "ftp"} <= config.methods.keys()
