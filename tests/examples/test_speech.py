"""The examples with speech, on a tiny model and tones; and the data that are made for them."""

import pytest
from datasets import Dataset
from transformers import AutoModelForAudioClassification, AutoModelForSpeechSeq2Seq

pytest.importorskip("soundfile")
pytest.importorskip("jiwer")

from ftp_hf import RunSummary
from ftp_hf.tasks.specs import DatasetSpec
from tests.support.launch import run_here
from tests.support.speech import save_whisper, sound, sounds


def test_speakers_and_takes_are_kept_apart(monkeypatch, tmp_path):
    for number, speaker in enumerate(["jackson", "theo", "george", "lucas", "nicolas", "yweweler"]):
        clips = sounds(12, 0.02 * (number + 1), take=[0, 4, 5, 9, 10, 49, 3, 7, 30, 1, 8, 11])
        clips.to_parquet(tmp_path / f"{speaker}.parquet")
    run_here(monkeypatch, "examples/speech/data.py", tmp_path, tmp_path / "out")
    made = {file.stem: DatasetSpec.parse(str(file)).numbered()[0] for file in (tmp_path / "out").iterdir()}
    assert {name: len(rows) for name, rows in made.items()} == {
        "train": 8, "validation": 8, "test": 8, **dict.fromkeys(["ood_george", "ood_lucas", "ood_nicolas", "ood_yweweler"], 4),
    }  # fmt: skip
    assert made["test"].features["label"].names[7] == "seven"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "config", "kind", "told", "flags"),
    [
        ("speech_recognition", "spoken_digits", AutoModelForSpeechSeq2Seq, "wer", []),
        ("speech_recognition", "spoken_digits", AutoModelForSpeechSeq2Seq, "wer", ["--evaluate_pretrained", "false"]),
        ("audio_classification", "spoken_digits_classes", AutoModelForAudioClassification, "accuracy", []),
    ],
)
def test_an_example(script, config, kind, told, flags, monkeypatch, capsys, tmp_path):
    model = save_whisper(tmp_path / "model")
    for number, name in enumerate(("train", "validation", "test", "ood", "retained")):
        sounds(4, 1.6 if name == "retained" else 0.5, noise=0.1 * number).to_parquet(tmp_path / f"{name}.parquet")
    before = told == "wer" and not flags
    flags = [*flags, "--config", f"examples/configs/{config}.yaml", "--model", model, "--output_dir", tmp_path / "run"]
    for name in ("train", "validation", "test", "ood", *(["retained"] if told == "wer" else [])):
        flags += [f"--{name}", tmp_path / f"{name}.parquet"]
    run_here(monkeypatch, f"examples/{script}.py", *flags, "--max_seconds", 1, "--max_steps", 2, "--use_cpu", "true")
    results = RunSummary.load(tmp_path / "run")
    assert results.task == script.replace("_", "-").replace("speech", "automatic-speech")
    assert all(told in result.metrics for result in results.results)
    assert kind.from_pretrained(tmp_path / "run").config.max_source_positions == 150, "it hears as much as before"
    run_here(monkeypatch, "examples/compare_runs.py", tmp_path / "run", "--markdown")
    table = capsys.readouterr().out
    assert ("before" in table) == before, table
    assert ("retained retained" in table) == (told == "wer"), table
    assert f"{100 * results.value('ood'):.1f}" in table


@pytest.mark.slow
def test_transcripts_stand_beside_what_was_said(monkeypatch, capsys, tmp_path):
    models = [save_whisper(tmp_path / f"model{seed}", seed=seed) for seed in (0, 1)]
    clips = {"audio": [sound(pitch, rate=16_000) for pitch in (300, 1500, 300)], "text": ["low", "high", "low"]}
    Dataset.from_dict(clips).to_parquet(tmp_path / "clips.parquet")
    run_here(monkeypatch, "examples/speech/transcripts.py", tmp_path / "clips.parquet", *models, "--count", 2)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "said: low"
    assert [line.split(": ")[0] for line in lines] == [
        str(models[0]),
        str(models[1]),
        "said",
        str(models[0]),
        str(models[1]),
    ]
