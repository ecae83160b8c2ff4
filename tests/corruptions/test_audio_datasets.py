"""Corruptions of a column of sounds."""

import pickle

import numpy as np
import pytest
from datasets import Audio, Dataset, Features, Value

from ftp_hf.corruptions import corrupt_audio, corrupted, corruption, read_sound, write_sound
from tests.support.samples import TEXTS, sounds

pytest.importorskip("soundfile")


def files(feature):
    rows = [write_sound(sound) for sound in sounds()]
    features = Features(audio={"bytes": Value("binary"), "path": Value("string")}, text=Value("string"))
    return Dataset.from_dict({"audio": rows, "text": TEXTS}, features=features).cast_column("audio", feature)


@pytest.mark.parametrize(
    "feature", [{"bytes": Value("binary"), "path": Value("string")}, Audio(decode=False), Audio(sampling_rate=16000)]
)
def test_a_column_of_files_is_corrupted_file_by_file(feature):
    dataset = files(feature)
    lazy = corrupted(dataset, "audio", "white_noise", 3, seed=7)
    assert (len(lazy), lazy.column_names, lazy["text"][:]) == (4, ["audio", "text"], TEXTS)
    for index, sound in enumerate(sounds()):
        expected = corrupt_audio(sound, "white_noise", 3, seed=7)
        for row in (lazy[index], lazy.select([index])[0], next(iter(lazy.skip(index)))):
            found = read_sound(row["audio"])
            assert found.rate == expected.rate
            np.testing.assert_array_equal(found.samples, expected.samples)
    assert dataset.features["audio"] == feature


def test_a_corruption_can_be_pickled():
    function, sound = corruption("reverberation", 2, 5), sounds()[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(function))(sound).samples, function(sound).samples)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"kind='echo'.*brightness, .*character_deletion, .*babble, .*white_noise"):
        corruption("echo", 1)
    dataset = files(Audio(decode=False))
    for column, kind, what in (
        ("text", "babble", "sounds"),
        ("audio", "fog", "images"),
        ("audio", "word_swap", "texts"),
    ):
        with pytest.raises(
            ValueError, match=rf"column='{column}' holds .* but kind='{kind}' is for {what}; .*sounds are"
        ):
            corrupted(dataset, column, kind, 1)
