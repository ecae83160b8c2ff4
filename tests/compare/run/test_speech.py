"""Comparisons of recognisers, whose word errors are to be few, and of classifiers of sounds."""

import pytest

pytest.importorskip("soundfile")
pytest.importorskip("jiwer")

from ftp_hf.common.records import plain
from ftp_hf.compare import ComparisonConfig, ComparisonResults, compare
from ftp_hf.tasks.speech import SpeechOptions, SpeechTask
from ftp_hf.tasks.whisper_windows import WindowsTrainerMixin
from tests.support.comparing import figures
from tests.support.speech import answered, save_whisper, sounds
from tests.support.tiny_data import image_config, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model can do what is validated and retained, and is trained on something else."""
    folder = tmp_path_factory.mktemp("speech")
    task = SpeechTask(str(save_whisper(folder / "model")), SpeechOptions(max_seconds=1))
    sounds(8).to_parquet(folder / "train.parquet")
    answered(task, sounds(4, noise=0.1)).to_parquet(folder / "validation.parquet")
    sounds(4, noise=0.2).to_parquet(folder / "test.parquet")
    sounds(4, noise=0.3).to_parquet(folder / "pale.parquet")
    answered(task, sounds(3, 1.6)).to_parquet(folder / "kept.parquet")
    return folder


def config(folder, to, **changes):
    content = image_config(folder, seeds=[0], learning_rate=[1e-6, 3e-2], max_seconds=1, **changes)
    content["training"] |= {"per_device_train_batch_size": 4}
    return ComparisonConfig.load(write_config(to, content))


def test_word_errors_are_chosen_by_and_told_beside_the_pretrained_model(folder, tmp_path, monkeypatch):
    trial = config(
        folder, tmp_path, task="automatic-speech-recognition", retained=[f"{folder / 'kept.parquet'}"],
        methods={"plain": {}, "ftp": {}, "wise-ft": {"alpha": [0.5]}},
        rules=["retained/kept:wer <= pretrained + 0.02", "kl/retained <= 0.1"],
        corruptions={"kinds": ["speed"], "severities": [3]},
    )  # fmt: skip
    results = compare(trial, tmp_path / "whole")
    assert results.metric == "wer"
    for method in ("plain", "ftp"):
        swept = {
            run.setting["learning_rate"]: run.value("validation", "wer") for run in results.runs if run.method == method
        }
        assert swept[1e-6] == 0 < swept[3e-2]
        assert results.method(method).chosen["learning_rate"] == 1e-6, "less is better"
    for method in trial.methods:
        (run,) = results.chosen_runs(method)
        found = {(result.kind, result.data): result.metrics for result in run.summary.results}
        assert list(found) == [
            ("validation", "validation"), ("id", "test"), ("ood", "pale"), ("retained", "kept"), ("corrupted", "speed/3"),
        ]  # fmt: skip
        assert found["retained", "kept"]["wer"] == {"0": 0.0}
        assert all(found[place]["kl"]["0"] >= 0 for place in list(found)[1:4])
        (before,) = run.summary.comparisons
        assert {result.data: result.metrics["wer"] for result in before.results}["kept"] == {"0": 0.0}
    report = (tmp_path / "whole" / "report.md").read_text()
    assert "wer" in report

    steps = iter(range(100))
    compute_loss = WindowsTrainerMixin.compute_loss

    def interrupted(self, *args, **kwargs):
        if next(steps) == 7:
            raise KeyboardInterrupt
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(WindowsTrainerMixin, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(trial, tmp_path / "killed")
    monkeypatch.undo()
    assert figures(compare(trial, tmp_path / "killed")) == figures(results)
    assert plain(ComparisonResults.load(tmp_path / "whole")) == plain(results)


def test_sounds_are_classified(folder, tmp_path):
    trial = config(folder, tmp_path, task="audio-classification", methods=["plain", "ftp", "lora"], metric="accuracy")
    results = compare(trial, tmp_path / "out")
    for method in trial.methods:
        (run,) = results.chosen_runs(method)
        found = {result.data: result.metrics for result in run.summary.results}
        assert 0 <= found["pale"]["accuracy"]["0"] <= 1
        assert found["pale"]["hidden_change"]["0"] >= 0, "the head is new"
        assert not run.summary.comparisons
