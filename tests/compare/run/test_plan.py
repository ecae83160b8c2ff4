"""What a comparison says before it trains, and where it says what it came to."""

import pytest

from ftp_hf.cli import main
from ftp_hf.compare.evidence.results import ComparisonResults
from ftp_hf.compare.evidence.verdict import headline
from ftp_hf.compare.run.config import ComparisonConfig
from ftp_hf.compare.run.plan import describe_plan
from tests.support.tiny_data import image_config, write_config


@pytest.fixture
def file(images, tmp_path):
    content = image_config(images, methods=["plain", "ftp"], learning_rate=[1e-2], seeds=[0])
    content["training"] |= {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    return write_config(tmp_path, content)


def test_the_plan_counts_what_is_trained(images, tmp_path):
    methods = {"plain": {}, "ftp": {"kappa": [0.5, 1.0]}, "wise-ft": {}}
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=methods, seeds=[0, 1, 2])))
    assert describe_plan(config) == (
        "10 runs to train (FTP 6, plain fine-tuning 4); computed from them: WiSE-FT; what is finished is not repeated"
    )
    config.every_setting = True
    assert describe_plan(config).startswith("18 runs to train (FTP 12, plain fine-tuning 6); ")


def test_a_dry_run_stops_after_the_plan(file, tmp_path, capsys):
    assert main(["compare", str(file), "--output_dir", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr()
    *_, train, validation, test, pale, plan = said.err.splitlines()
    assert plan.startswith("2 runs to train (plain fine-tuning 1, FTP 1)")
    assert train == "train: 32 rows of 2 classes: dark 16, light 16"
    assert [line.split(" rows")[0] for line in (validation, test, pale)] == [
        "validation: 16",
        "test: 24",
        "ood/pale: 24",
    ]
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_dry_run_finds_what_cannot_be_trained(images, tmp_path, capsys):
    file = write_config(tmp_path, image_config(images, methods={"ftp": {"kappa": [2, 3]}, "tpgm": {"interval": 1.5}}))
    assert main(["compare", str(file), "--output_dir", str(tmp_path / "out"), "--dry-run"]) == 1
    faults = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ftp-hf compare: ")]
    assert len(faults) == 3
    for method in (
        "ftp cannot be trained: kappa must lie in [0, 1]",
        "tpgm cannot be trained: interval must be a whole",
    ):
        assert any(f"{file}: methods: {method}" in line for line in faults)


@pytest.mark.slow
def test_the_verdict_goes_where_it_can_be_kept(file, tmp_path, capsys):
    assert main(["compare", str(file), "--output_dir", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    verdict = headline(ComparisonResults.load(tmp_path / "out"))
    assert said.out.startswith(f"{verdict}\n{tmp_path / 'out' / 'report.html'}\nNo run is recommended: ")
    assert said.out.splitlines()[-2:] == [
        f"ftp-hf check {tmp_path / 'out' / 'runs' / 'RUN'} --rules RULES.yaml",
        f"ftp-hf push {tmp_path / 'out' / 'runs' / 'RUN'} USER/NAME",
    ]
    assert verdict not in said.err
    lines = said.err.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("1/2 "))
    assert lines.index(describe_plan(ComparisonConfig.load(file))) < first
