"""Plain fine-tuning that goes on below its learning rates: which are tried, chosen and kept, and what is said of it."""

import re

import pytest

import ftp_hf.compare.run.comparison as module
from ftp_hf.cli import main
from ftp_hf.common.records import plain
from ftp_hf.compare import ComparisonConfig, ComparisonResults, compare
from ftp_hf.compare.evidence.results import ComparedRun
from ftp_hf.compare.report.tables import sweep_table
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import describe_plan
from ftp_hf.compare.run.runner import Runner
from ftp_hf.runs.facts import DataFacts, Evaluation
from ftp_hf.runs.summary import RunSummary
from tests.support.comparing import figures
from tests.support.tiny_data import image_config, write_config


def load(folder, content):
    return ComparisonConfig.load(write_config(folder, content))


@pytest.mark.parametrize(
    ("setting", "smallest", "rates"),
    [
        ({"factor": 3.16, "most": 4}, 1e-3, [3.2e-4, 1e-4, 3.2e-5, 1e-5]),
        ({"factor": 3.16, "most": 2}, 2e-5, [6.3e-6, 2e-6]),
        ({"factor": 10, "most": 1}, 5e-5, [5e-6]),
    ],
)
def test_the_rates_that_follow(setting, smallest, rates):
    assert METHODS["small-lr"].rates(setting, smallest) == rates


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["small-lr"], "method 'small-lr' builds on 'plain': add it to methods"),
        ({"plain": {}, "small-lr": {"factor": 1.1}}, "methods: small-lr: factor must be at least 1.5, got 1.1"),
        (
            {"plain": {}, "small-lr": {"factor": [2, 3]}},
            "methods: small-lr: factor must be a single number, got [2.0, 3.0]",
        ),
        ({"plain": {}, "small-lr": {"most": 1.5}}, "methods: small-lr: most must be a whole number, got 1.5"),
        ({"plain": {}, "small-lr": {"most": 0}}, "methods: small-lr: most must be at least 1, got 0"),
        ({"plain": {}, "small-lr": {"learning_rate": 1e-6}}, "unknown key of methods: small-lr: 'learning_rate'"),
    ],
)
def test_what_makes_no_rates_is_refused(images, tmp_path, methods, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path, image_config(images, methods=methods))


def test_the_plan_says_how_many_there_are_at_most(images, tmp_path):
    config = load(tmp_path, image_config(images, methods=["plain", "small-lr", "wise-ft"]))
    assert describe_plan(config) == (
        "up to 8 runs to train (plain fine-tuning 3, small learning rate up to 5); computed from them: WiSE-FT; what is "
        "finished is not repeated"
    )


class KnownRunner:
    """Trains nothing: runs have these ID validation figures, by their learning rates."""

    def __init__(self, figures):
        self.figures, self.trained, self.forgotten, self.gone = figures, [], [], []

    def __call__(self, *_):
        return self

    def check(self):
        """Refuse nothing."""

    def pretrained(self):
        return []

    def train(self, run, *_):
        assert run.method == "plain"
        rate = run.setting["learning_rate"]
        if (rate, run.seed) not in self.trained:
            self.trained.append((rate, run.seed))
        results = [Evaluation("validation", "validation", {"accuracy": {str(run.seed): self.figures[rate]}})]
        data = [DataFacts("validation", "validation", 100)]
        summary = RunSummary(run.describe(), "plain", seed=run.seed, results=results, data=data)
        return ComparedRun(run.method, dict(run.setting), run.seed, summary)

    def evaluate(self, run):
        evaluated = self.train(run)
        accuracy = {"accuracy": {str(run.seed): self.figures[run.setting["learning_rate"]]}}
        evaluated.summary.results.append(Evaluation("test", "id", accuracy))
        return evaluated

    finish = evaluate

    def keep(self, run):
        assert run.setting not in self.gone
        return module.Path("runs", f"plain-{run.setting['learning_rate']:g}-seed{run.seed}")

    def forget_weights(self, run):
        self.forgotten.append(run.setting["learning_rate"])
        self.gone.append(run.setting)


@pytest.fixture
def compare_known(images, tmp_path, monkeypatch, capsys):
    """A comparison of plain fine-tuning at 1e-3 and 1e-2, and below, with known figures."""

    def run(figures, every_setting=False, lengths=None, **settings):
        runner = KnownRunner(figures)
        monkeypatch.setattr(module, "Runner", runner)
        runner.data = type("Data", (), {"train_facts": None})
        for name in ("hand_over", "write_report"):
            monkeypatch.setattr(module, name, lambda *_: None)
        methods = {"plain": {}, "small-lr": settings}
        content = image_config(images, methods=methods, seeds=[0, 1], every_setting=every_setting)
        if lengths:
            content["training"].pop("num_train_epochs")
            content["num_train_epochs"] = lengths
        config = load(tmp_path, content)
        return runner, compare(config, tmp_path / "out"), capsys.readouterr().err

    return run


FIGURES = {1e-2: 0.7, 1e-3: 0.9, 3.2e-4: 0.91, 1e-4: 0.88, 3.2e-5: 0.8, 1e-5: 0.7}


def test_smaller_rates_are_tried_until_validation_falls(compare_known):
    runner, results, said = compare_known(FIGURES)
    # One standard error of 0.9 of 100 rows is 0.03: 0.88 has not fallen, 0.8 has.
    assert runner.trained == [(1e-3, 0), (1e-2, 0), (1e-3, 1), (3.2e-4, 0), (1e-4, 0), (3.2e-5, 0), (1e-4, 1)]
    small = results.method("small-lr")
    assert small.chosen == {"learning_rate": 1e-4}
    assert small.sweep == {"learning_rate": [3.2e-5, 1e-4, 3.2e-4, 1e-3, 1e-2]}
    assert results.method("plain").chosen == {"learning_rate": 1e-3}
    assert [run.seed for run in results.chosen_runs("small-lr")] == [0, 1]
    assert [run.folder for run in results.chosen_runs("small-lr")] == [f"runs/plain-0.0001-seed{s}" for s in (0, 1)]
    tested = {(run.method, run.setting["learning_rate"]) for run in results.runs if run.summary.of_kind("id")}
    assert tested == {("plain", 1e-3), ("small-lr", 1e-4)}
    assert sorted(runner.forgotten) == [3.2e-5, 3.2e-4, 1e-2]
    lines = said.splitlines()
    assert lines[0].startswith("up to 8 runs to train")
    assert [line.split(" ", 1)[0] for line in lines[1:4]] == ["1/up", "2/up", "3/up"]
    assert [line for line in lines if line.startswith("7/7 ")]


def test_where_plain_has_fallen_already_no_smaller_rate_is_tried(compare_known):
    runner, results, said = compare_known({**FIGURES, 1e-2: 0.95, 1e-3: 0.9})
    assert runner.trained == [(1e-3, 0), (1e-2, 0), (1e-2, 1)]
    assert results.method("small-lr").chosen == results.method("plain").chosen == {"learning_rate": 1e-2}
    assert runner.forgotten == [1e-3]
    assert said.splitlines()[3].startswith("3/up to 8 plain fine-tuning, learning rate 0.01, seed 1")
    assert "\n4/" not in said  # they are plain fine-tuning's


def test_a_rate_that_plain_did_not_choose_is_kept_for_it(compare_known):
    runner, results, _ = compare_known({**FIGURES, 1e-2: 0.91, 3.2e-4: 0.5})
    assert runner.trained == [(1e-3, 0), (1e-2, 0), (1e-2, 1), (3.2e-4, 0), (1e-3, 1)]
    assert results.method("small-lr").chosen == {"learning_rate": 1e-3}
    assert runner.forgotten == [3.2e-4]


def test_no_more_are_tried_than_was_said(compare_known):
    runner, results, _ = compare_known({**FIGURES, 3.2e-5: 0.9}, most=3)
    assert min(runner.trained) == (3.2e-5, 0)
    assert results.method("small-lr").chosen == {"learning_rate": 3.2e-5}


def test_smaller_rates_are_tried_at_the_length_that_plain_chose(compare_known):
    _, results, _ = compare_known(FIGURES, lengths=[3, 9])
    assert results.method("plain").chosen == {"learning_rate": 1e-3, "num_train_epochs": 3}
    assert results.method("small-lr").chosen == {"learning_rate": 1e-4, "num_train_epochs": 3}
    tried = {tuple(run.setting.values()) for run in results.runs if run.method == "small-lr"}
    assert tried == {(rate, 3) for rate in (1e-2, 1e-3, 3.2e-4, 1e-4, 3.2e-5)}
    assert all("not run yet" not in row for row in sweep_table(results).rows)


@pytest.mark.parametrize("figures", [FIGURES, {**FIGURES, 1e-2: 0.95}, {**FIGURES, 1e-2: 0.91, 3.2e-4: 0.5}])
@pytest.mark.parametrize("every_setting", [True, False])
def test_each_run_is_counted_once(compare_known, figures, every_setting):
    runner, _, said = compare_known(figures, every_setting)
    done = [line.split(" ", 1)[0] for line in said.splitlines() if re.match(r"\d+/", line)]
    count = len(runner.trained)
    assert [int(each.partition("/")[0]) for each in done] == [*range(1, count + 1)]
    assert done[-1] in (f"{count}/{count}", f"{count}/up")  # if nothing came after it was known how many there are


@pytest.mark.slow
def test_interrupted_it_comes_to_the_same_and_nothing_is_trained_twice(images, tmp_path, monkeypatch):
    methods = {"plain": {}, "small-lr": {"most": 2}}
    content = image_config(images, methods=methods, learning_rate=[1e-2], seeds=[0])
    content["training"] |= {"num_train_epochs": 1}
    config = load(tmp_path, content)
    whole = compare(config, tmp_path / "whole")
    trained = Runner.train

    def killed(self, run, progress=lambda _: None):
        def report(share):
            if run.setting["learning_rate"] < 1e-2:
                raise KeyboardInterrupt
            progress(share)

        return trained(self, run, report)

    monkeypatch.setattr(Runner, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(config, tmp_path / "killed")
    monkeypatch.setattr(Runner, "train", trained)
    resumed = compare(config, tmp_path / "killed")
    assert figures(resumed) == figures(whole)
    assert resumed.method("small-lr") == whole.method("small-lr")
    runs = tmp_path / "whole" / "runs"
    assert {folder.name.split("-")[0] for folder in runs.iterdir()} == {"plain", "pre"}
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*.safetensors")}
    assert figures(compare(config, tmp_path / "whole")) == figures(whole)
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*.safetensors")} == before
    for run in whole.chosen_runs("small-lr"):
        assert list((tmp_path / "whole" / run.folder).glob("*.safetensors"))
        assert RunSummary.load(tmp_path / "whole" / run.folder).method == "plain"
    assert main(["report", str(tmp_path / "whole")]) == 0
    report = (tmp_path / "whole" / "report.md").read_text()
    assert "small learning rate" in report
    assert plain(ComparisonResults.load(tmp_path / "whole")) == plain(whole)
