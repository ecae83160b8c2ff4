"""Streams as the command runs them: on a tiny model, whole and interrupted."""

import shutil

import pytest
from safetensors.torch import load_file
from transformers import TrainerCallback

from ftp_hf.cli import main
from ftp_hf.common.records import plain
from ftp_hf.compare.evidence.stream_results import StreamResults
from ftp_hf.compare.run import trained
from ftp_hf.compare.stream.config import StreamConfig
from ftp_hf.compare.stream.stream import rehearse_stream, stream
from tests.support.tiny_data import write_config
from tests.support.tiny_streams import STAGES, chain, make_stream, stream_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return make_stream(tmp_path_factory.mktemp("stream"))


def load(texts, folder, **changes):
    return StreamConfig.load(write_config(folder, stream_config(texts, **changes)))


def figures(results):
    """What came out, but for the time it took."""
    return [(run.method, run.order, run.seed, run.matrix, run.before, run.retained, run.checks) for run in results.runs]


def test_a_dry_run_refuses_rules_about_what_is_not_measured(texts, tmp_path):
    config = load(texts, tmp_path, methods={"plain": {}}, rules=["earlier_mean:f3 >= 0.5"])
    with pytest.raises(ValueError, match=r"rules: .* cannot be checked: the model has no f3 on earlier/"):
        rehearse_stream(config)


def test_a_dry_run_says_once_what_no_method_can_be_trained_with(texts, tmp_path):
    training = {"use_cpu": True, "lr_scheduler_kwargs": {"foo": 1}}
    with pytest.raises(ValueError, match=r"methods: ftp, plain cannot be trained: .*unexpected .*'foo'") as raised:
        rehearse_stream(load(texts, tmp_path, training=training))
    assert raised.value.__notes__ == []


def test_results_of_a_comparison_are_not_overwritten(texts, tmp_path):
    (tmp_path / "results.json").write_text('{"methods": []}')
    with pytest.raises(FileExistsError, match="is of a comparison, and this stream would overwrite it"):
        stream(load(texts, tmp_path), tmp_path)


class Killed(BaseException):
    """As a process that ends: nothing cleans up after it."""


def kill_in_stage(number, monkeypatch):
    """From now on the run of this stage ends in its second epoch."""
    started = []

    class Kill(TrainerCallback):
        def __init__(self, _):
            started.append(self)

        def on_step_end(self, _, state, *__, **___):
            if len(started) == number and state.epoch > 1.3:
                raise Killed

    monkeypatch.setattr(trained, "_Report", Kill)


def test_a_stream_that_is_killed_comes_to_the_same_matrix(texts, tmp_path, monkeypatch):
    retained = [f"old={texts / 'old'}.parquet"]
    config = load(texts, tmp_path, retained=retained, methods={"replay": {"rows": 2}})
    whole = stream(config, tmp_path / "whole")
    for run in whole.runs:
        assert (len(run.matrix), len(run.matrix[0]), len(run.before), len(run.retained["old"])) == (3, 3, 3, 4)
    with monkeypatch.context() as patched:
        kill_in_stage(2, patched)
        with pytest.raises(Killed):
            stream(config, tmp_path / "killed")
    assert list((tmp_path / "killed").glob("runs/*/checkpoint-*"))
    resumed = stream(config, tmp_path / "killed")
    assert figures(resumed) == figures(whole)
    assert plain(StreamResults.load(tmp_path / "killed")) == plain(resumed)
    for run in whole.runs:  # and the last model of the first order and seed is there, bit for bit the same
        models = [load_file(tmp_path / name / run.folders[-1] / "model.safetensors") for name in ("whole", "killed")]
        assert all((models[0][name] == models[1][name]).all() for name in models[0])
        assert not list((tmp_path / "whole" / run.folders[0]).glob("*.safetensors"))

    # What was deleted because nothing needed it is trained again when it is needed.
    last = tmp_path / "killed" / resumed.runs[0].folders[-1]
    shutil.rmtree(last)
    assert figures(stream(config, tmp_path / "killed")) == figures(whole)

    report = (tmp_path / "whole" / "report.md").read_text()
    assert all(method.title in report for method in whole.methods)
    assert main(["report", str(tmp_path / "whole")]) == 0
    assert (tmp_path / "whole" / "report.md").read_text() == report


def test_a_stage_that_breaks_a_rule_is_rolled_back(texts, tmp_path, monkeypatch):
    rules = ["earlier/films >= learnt - 0.3", "id/test >= 0.0"]
    config = load(texts, tmp_path, methods={"plain": {}}, rules=rules)
    whole = stream(config, tmp_path / "whole")
    (run,) = whole.runs
    assert [check.rolled_back for check in run.checks] == [False, True, True]
    broken = run.checks[1].broken[0]
    assert (broken.rule, broken.value, broken.passed) == (rules[0], run.checks[1].row[0], False)
    assert broken.threshold == pytest.approx(run.matrix[0][0] - 0.3)
    assert run.matrix[1] == run.matrix[2] == run.matrix[0] != run.checks[1].row
    first, *others = (tmp_path / "whole" / folder for folder in run.folders)
    assert (first / "model.safetensors").is_file()  # the model in use in the end
    assert not any((folder / "model.safetensors").exists() for folder in others)

    with monkeypatch.context() as patched:
        kill_in_stage(3, patched)
        with pytest.raises(Killed):
            stream(config, tmp_path / "killed")
    assert figures(stream(config, tmp_path / "killed")) == figures(whole)

    # With an alert the third stage starts from the second model, which is deleted, and trained again.
    alerted = stream(
        load(texts, tmp_path, methods={"plain": {}}, rules=rules, when_broken="alert"), tmp_path / "killed"
    )
    planned = [run.folder(tmp_path, config.first).name for run in chain(config, "plain", STAGES, 0)]
    assert [folder.removeprefix("runs/") for folder in alerted.runs[0].folders] == planned
    assert not any(check.rolled_back for check in alerted.runs[0].checks)
    assert alerted.runs[0].matrix[1] == run.checks[1].row


def test_methods_that_know_something_of_the_earlier_stages(texts, tmp_path):
    methods = {"joint": {}, "ewc": {"lambda_": 10}, "kl": {"lambda_": 1.0}}
    methods |= {"lora": {}, "lora-merged": {}, "ftp-first": {}}
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "use_cpu": True, "weight_decay": 0.0}
    config = load(texts, tmp_path, methods=methods, stages=STAGES[:2], heads="per-stage", training=training)
    results = stream(config, tmp_path / "out")
    shapes = {run.method: (len(run.matrix), len(run.matrix[0])) for run in results.runs}
    assert shapes == {**dict.fromkeys(methods, (2, 2)), "joint": (1, 2)}
    merged = next(run for run in results.runs if run.method == "lora-merged")
    assert (tmp_path / "out" / merged.folders[-1] / "model.safetensors").is_file()
    assert not list((tmp_path / "out" / merged.folders[-1]).glob("adapter*"))


def test_streams_at_once_come_to_the_same_and_one_that_fails_keeps_no_other(texts, tmp_path, caplog, capfd):
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "use_cpu": True, "weight_decay": 0.0}
    rules = ["earlier/films >= learnt - 0.3"]
    config = load(texts, tmp_path, methods={"plain": {}, "replay": {"rows": 2}}, rules=rules, training=training)
    one_by_one = stream(config, tmp_path / "one")
    known = "rows of test have the input of a row of train"
    assert caplog.text.count(known) == len(STAGES)
    in_the_way = chain(config, "plain", STAGES, 0)[1].folder(tmp_path / "two" / "runs", config.first)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where the run has its folder")
    with pytest.raises(ValueError, match=r"sequential, films → songs → meals, seed 0: .*Error"):
        stream(config, tmp_path / "two", jobs=2)
    assert caplog.text.count(known) == 2 * len(STAGES)
    assert known not in capfd.readouterr().err, "the workers leave it to the process that began them"
    in_the_way.unlink()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "two").rglob("trained.json")}
    folders = [run.folder(tmp_path / "two" / "runs", config.first) for run in chain(config, "replay", STAGES, 0)]
    assert {folder / "trained.json" for folder in folders} == before.keys(), "the first one is that of both"
    assert figures(stream(config, tmp_path / "two", jobs=2)) == figures(one_by_one)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    left = [{file.parent.name for file in (tmp_path / name).rglob("model.safetensors")} for name in ("one", "two")]
    assert left[0] == left[1], "the weights that nothing needs are gone"


def test_jobs_are_at_least_one(texts, tmp_path):
    config = StreamConfig.load(write_config(tmp_path, stream_config(texts)))
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        stream(config, tmp_path / "out", jobs=0)
