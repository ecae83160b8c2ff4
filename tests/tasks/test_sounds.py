"""Sounds as a model hears them: rate, channels, windows, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Audio, Dataset
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

pytest.importorskip("soundfile")

from ftp_hf.corruptions import Sound, read_sound, write_sound
from ftp_hf.tasks.sounds import SoundOptions, Sounds, at_rate
from ftp_hf.tasks.specs import DatasetSpec
from tests.support import samples
from tests.support.speech import sound, sounds


def heard(options=None, extractor=None):
    return Sounds(extractor or WhisperFeatureExtractor(feature_size=8, chunk_length=3), options or SoundOptions())


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_file_of_any_rate_is_heard_at_the_rate_of_the_model(kind, rate):
    samples, now = at_rate(read_sound(sound(440, 0.5, rate=rate, kind=kind)), 16000)
    assert (now, samples.shape, samples.dtype) == (16000, (8000,), np.float32)
    assert np.abs(np.fft.rfft(samples)).argmax() * 2 == 440, "in steps of 2 hertz"
    assert np.abs(samples[400:-400]).max() == pytest.approx(0.5, abs=5e-3), "as loud as before"


@pytest.mark.parametrize(
    ("max_seconds", "seconds", "frames"),
    [(None, 0.5, 300), (1, 0.5, 100), (0.52, 0.5, 52), (1, 1.0, 100), (1, 1.7, 200), (1, 3.0, 300)],
)
def test_a_window_is_as_long_as_asked_for_or_as_the_longest_sound_needs(max_seconds, seconds, frames):
    rows = heard(SoundOptions(max_seconds=max_seconds)).prepared(
        sounds(2, seconds), lambda batch: {"label": batch["label"]}
    )
    assert rows[1]["input_features"].shape == (8, frames)
    assert rows["label"][:] == [0, 1]


def test_a_short_window_is_the_beginning_of_the_long_one():
    data = sounds(1, 0.5)
    short, whole = (
        heard(SoundOptions(max_seconds=limit)).prepared(data, lambda _: {})[0]["input_features"] for limit in (1, None)
    )
    np.testing.assert_allclose(short[:, :49], whole[:, :49], atol=1e-5)


def test_a_corruption_changes_what_is_heard_and_what_it_makes_longer_gets_a_longer_window():
    sounds_, data = heard(SoundOptions(max_seconds=1)), sounds(2, 0.5)
    given = []

    def slower(sound):
        given.append((sound.rate, sound.samples.shape))
        return Sound(np.repeat(sound.samples, 3), sound.rate)

    rows = sounds_.prepared(data, lambda _: {}, slower)
    assert rows[0]["input_features"].shape == (8, 200)
    assert set(given) == {(16000, (8000,))}


def test_any_other_model_hears_each_sound_in_its_own_length():
    sounds_ = heard(extractor=Wav2Vec2FeatureExtractor(return_attention_mask=True))
    rows = sounds_.prepared(Dataset.from_list([{"audio": sound(300, 0.1)}, {"audio": sound(300, 0.2)}]), lambda _: {})
    batch = sounds_.pad([rows[0], rows[1]])
    assert batch["input_values"].shape == (2, 3200)
    assert batch["attention_mask"].sum(dim=1).tolist() == [1600, 3200]
    with pytest.raises(ValueError, match="max_seconds is the length of Whisper's windows"):
        heard(SoundOptions(max_seconds=2), Wav2Vec2FeatureExtractor())


@pytest.mark.parametrize("seconds", [0, -1, 0.011, 30.02])
def test_windows_that_there_are_not(seconds):
    with pytest.raises(ValueError, match=r"max_seconds must be a multiple of 0\.02 up to 30"):
        SoundOptions(max_seconds=seconds)


def test_sounds_that_cannot_be_heard_are_named():
    with pytest.raises(ValueError, match=r"no column 'audio' in few .* name it in audio_column"):
        heard().check("few", Dataset.from_dict({"sound": [1]}))
    for file, problem in [
        ({"bytes": b"no sound", "path": None}, "row 1 of few holds no sound in 'audio'"),
        ({"bytes": None, "path": "missing.wav"}, "row 1 of few holds no sound"),
        (None, "row 1 of few holds no sound"),
        (sound(300, 0.0), "row 1 of few is a sound without any samples"),
        (sound(300, 3.1), r"row 1 of few takes 3\.1 seconds, but the model hears 3 at a time"),
    ]:
        with pytest.raises(ValueError, match=problem):
            heard().check("few", Dataset.from_list([{"audio": sound(300)}, {"audio": file}]))
    heard().check("few", sounds(2, 3.0))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_may_hold_the_paths_of_sounds(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for name in ("near.wav", "far.wav"):
        Path(name).write_bytes(sound(440)["bytes"])
    table = Dataset.from_dict({"audio": ["near.wav", str(tmp_path / "far.wav")], "label": [0, 1]})
    {"csv": table.to_csv, "jsonl": table.to_json, "parquet": table.to_parquet}[kind](f"table.{kind}")
    data = DatasetSpec.parse(f"table.{kind}").numbered()[0]
    heard().check("few", data)
    made = heard().prepared(Dataset.from_list([{"audio": sound(440)}]), lambda _: {})[0]["input_features"]
    for row in heard().prepared(data, lambda _: {}):
        np.testing.assert_array_equal(row["input_features"], made)


def test_a_folder_of_sounds_has_a_class_for_each_of_its_folders_or_what_its_metadata_tell(tmp_path):
    for row, name in enumerate(("high", "low", "low")):
        for file in (tmp_path / "classes" / name / f"{row}.wav", tmp_path / "texts" / f"{row}.wav"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sound(440)["bytes"])
    (tmp_path / "texts" / "metadata.csv").write_text("file_name,text\n0.wav,one\n1.wav,two\n2.wav,three\n")
    classes, texts = (DatasetSpec.parse(str(tmp_path / name)).numbered()[0] for name in ("classes", "texts"))
    assert classes.features["label"].names == ["high", "low"]
    assert (classes["label"][:], texts["text"][:]) == ([0, 1, 1], ["one", "two", "three"])
    for data in (classes, texts):
        assert isinstance(data.features["audio"], Audio)
        heard().check("few", data)
        assert heard().prepared(data, lambda _: {})[2]["input_features"].shape == (8, 300)


def test_samples_that_are_no_numbers_are_refused():
    for value in (np.nan, np.inf):
        file = write_sound(Sound(np.array([0, value, 0], np.float32), 8000))
        with pytest.raises(ValueError, match="row 1 of few has samples in 'audio' that are not finite"):
            heard().check("few", Dataset.from_list([{"audio": sound(440)}, {"audio": file}]))


def test_voices_are_what_the_extractor_makes_of_their_samples():
    files = [write_sound(voice) for voice in samples.sounds(8000)]
    heard().check("few", data := Dataset.from_list([{"audio": file} for file in files]))
    for file, row in zip(files, heard().prepared(data, lambda _: {}), strict=True):
        voice = at_rate(read_sound(file), 16000).samples
        expected = heard().extractor(voice, sampling_rate=16000, return_tensors="np")["input_features"][0]
        np.testing.assert_array_equal(row["input_features"], expected)


def test_a_column_that_datasets_would_decode():
    data = sounds(2).cast_column("audio", Audio())
    heard().check("few", data)
    assert heard().prepared(data, lambda _: {})[0]["input_features"].shape == (8, 300)
