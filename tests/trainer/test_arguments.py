import json
from dataclasses import fields

import pytest
import yaml
from transformers import HfArgumentParser, TrainingArguments

from ftp_hf import FTPArguments, FTPTrainingArguments
from ftp_hf.tasks import TASKS, DataOptions, task_class

OPTIONS = {
    "ftp_kappa": 0.25,
    "ftp_radius_lr": 0.02,
    "ftp_radius_share": 0.5,
    "ftp_exclude": ["a.*", "b"],
    "ftp_exclude_new": False,
    "ftp_stochastic_rounding": True,
}


def test_flags(tmp_path):
    flags = ["--ftp_kappa", "0.25", "--ftp_radius_lr", "0.02", "--ftp_radius_share", "0.5"]
    flags += ["--ftp_exclude", "a.*", "b", "--ftp_exclude_new", "no", "--ftp_stochastic_rounding"]
    (args,) = HfArgumentParser(FTPTrainingArguments).parse_args_into_dataclasses(
        ["--output_dir", str(tmp_path), *flags]
    )
    assert {name: getattr(args, name) for name in OPTIONS} == OPTIONS


@pytest.mark.parametrize(("dump", "suffix"), [(yaml.safe_dump, "yaml"), (json.dumps, "json")])
def test_files(tmp_path, dump, suffix):
    file = tmp_path / f"config.{suffix}"
    file.write_text(dump({"output_dir": str(tmp_path), **OPTIONS}))
    parser = HfArgumentParser(FTPTrainingArguments)
    (args,) = parser.parse_yaml_file(file) if suffix == "yaml" else parser.parse_json_file(file)
    assert {name: getattr(args, name) for name in OPTIONS} == OPTIONS


@pytest.mark.parametrize("kind", [FTPArguments, DataOptions, *(task_class(name).options_class for name in TASKS)])
def test_every_field_has_the_help_text_of_the_docstring(kind):
    assert [option.name for option in fields(kind) if not option.metadata.get("help")] == []


def test_options_of_other_training_arguments_are_the_defaults(tmp_path):
    assert FTPArguments.of(TrainingArguments(str(tmp_path))) == FTPArguments()
    assert FTPArguments.of(FTPTrainingArguments(str(tmp_path), **OPTIONS)) == FTPArguments(**OPTIONS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ftp_radius_lr: 1e-1", r"ftp_radius_lr must be a number, got '1e-1'; .* 1\.0e-1 or 0\.1 "),
        ("ftp_probe_learning_rate: 1e-1", "ftp_probe_learning_rate must be a number, got '1e-1'"),
        ("ftp_kappa:", "ftp_kappa must be a number, got None"),
        (
            "ftp_exclude: classifier.*",
            r"ftp_exclude must be a list .*, got 'classifier\.\*'; .* write \['classifier\.\*'\]",
        ),
    ],
)
def test_a_text_is_neither_a_number_nor_a_list(tmp_path, line, message):
    file = tmp_path / "config.yaml"
    file.write_text(f"output_dir: {tmp_path}\n{line}\n")
    with pytest.raises(TypeError, match=message):
        HfArgumentParser(FTPTrainingArguments).parse_yaml_file(file)
