"""Corruptions of sounds."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from ftp_hf.corruptions import AUDIO_CORRUPTIONS, SEVERITIES, Sound, corrupt_audio, read_sound, write_sound
from tests.support.samples import sounds

every_kind = pytest.mark.parametrize("kind", AUDIO_CORRUPTIONS)
DRAWN = {"babble", "packet_loss", "pink_noise", "pitch", "reverberation", "speed", "white_noise"}


def tone(frequency, seconds=1.0, rate=16000, amplitude=0.5):
    samples = amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return Sound(samples.astype(np.float32), rate)


def heard_frequency(sound):
    spectrum = np.abs(np.fft.rfft(sound.samples))
    return spectrum.argmax() * sound.rate / len(sound.samples)


def distance(kind, severity, rate):
    """How far corrupted sounds are from the original: octaves of pitch and speed, else the share of what is added."""
    if kind == "pitch":
        return abs(np.log2(heard_frequency(corrupt_audio(tone(500, 0.5, rate), kind, severity)) / 500))
    total = []
    for sound in sounds(rate)[:3]:
        corrupted = corrupt_audio(sound, kind, severity)
        if kind == "speed":
            total.append(abs(np.log2(len(corrupted.samples) / len(sound.samples))))
        else:
            total.append(np.sqrt(np.mean((corrupted.samples - sound.samples) ** 2) / np.mean(sound.samples**2)))
    return np.mean(total)


@every_kind
@pytest.mark.parametrize("rate", [8000, 16000])
def test_each_severity_is_further_from_the_original(kind, rate):
    measured = [distance(kind, severity, rate) for severity in SEVERITIES]
    assert measured[0] > 0.02
    assert all(np.diff(measured) > 0), measured


@every_kind
def test_only_seed_and_content_decide_what_is_drawn(kind):
    sound, other = sounds()[:2]
    np.random.seed(1)  # the global generator plays no part
    first = corrupt_audio(sound, kind, 3)
    corrupt_audio(other, kind, 3)
    np.random.seed(2)
    strided = Sound(np.repeat(sound.samples, 2)[::2], sound.rate)
    np.testing.assert_array_equal(first.samples, corrupt_audio(strided, kind, 3).samples)
    others = [corrupt_audio(sound, kind, 3, seed=seed).samples for seed in range(1, 6)]
    assert any(not np.array_equal(first.samples, other) for other in others) == (kind in DRAWN)


PINNED = {  # length, one of the samples, and their root mean square
    "babble": (16000, 0.0522, 0.1594),
    "clipping": (16000, 0.5000, 0.3783),
    "packet_loss": (16000, 0.1019, 0.1450),
    "pink_noise": (16000, 0.0164, 0.1643),
    "pitch": (16000, 0.0542, 0.1177),
    "quantisation": (16000, 0.1235, 0.1627),
    "reverberation": (16000, 0.1234, 0.2469),
    "speed": (12171, -0.0532, 0.1561),
    "telephone": (16000, -0.0269, 0.0691),
    "white_noise": (16000, 0.0687, 0.1643),
}


@every_kind
def test_an_ood_set_stays_what_it_is(kind):
    samples = corrupt_audio(sounds()[0], kind, 3).samples
    found = (len(samples), samples[4321], np.sqrt(np.mean(samples**2)))
    assert found == pytest.approx(PINNED[kind], abs=1e-4)


@every_kind
def test_form_length_and_range_are_kept(kind):
    for sound in sounds():
        loud = Sound(sound.samples / np.abs(sound.samples).max(), sound.rate)
        before = loud.samples.copy()
        for severity in (1, 5):
            corrupted = corrupt_audio(loud, kind, severity)
            assert (type(corrupted), corrupted.rate, corrupted.samples.dtype) == (Sound, sound.rate, np.float32)
            assert len(corrupted.samples) == len(loud.samples) or kind == "speed"
            assert np.abs(corrupted.samples).max() <= 1
        np.testing.assert_array_equal(loud.samples, before)


@every_kind
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_silence_and_short_sounds(kind, rate):
    for length in (0, 1, 300):
        silence = corrupt_audio(Sound(np.zeros(length, np.float32), rate), kind, 5)
        assert (len(silence.samples), silence.samples.any()) == (length, False)
    noise = np.random.RandomState(0).uniform(-1, 1, 300).astype(np.float32)
    for length in (1, 2, 3, 160, 300):
        for severity in (1, 5):
            corrupted = corrupt_audio(Sound(noise[:length], rate), kind, severity).samples
            assert np.isfinite(corrupted).all()
            assert len(corrupted) == length or (kind == "speed" and length / 2 < len(corrupted) < 2 * length + 1)


@pytest.mark.parametrize("kind", ["white_noise", "pink_noise", "babble"])
def test_noise_has_the_ratio_that_is_asked_for(kind):
    sound = sounds()[0]
    soft = Sound(sound.samples / 10, sound.rate)
    for each in (sound, soft):
        last = 3.1 if kind == "babble" else 0
        for severity, decibels in zip(SEVERITIES, np.linspace(20, last, 5), strict=True):
            noise = corrupt_audio(Sound(each.samples / 4, each.rate), kind, severity).samples - each.samples / 4
            ratio = np.mean((each.samples / 4) ** 2) / np.mean(noise**2)
            assert 10 * np.log10(ratio) == pytest.approx(decibels, abs=0.01)


def test_noise_of_the_severities_is_the_same_noise():
    sound = Sound(sounds()[0].samples / 4, 16000)
    for kind in ("white_noise", "pink_noise", "babble"):
        weak, strong = (corrupt_audio(sound, kind, severity).samples - sound.samples for severity in (1, 4))
        assert np.corrcoef(weak, strong)[0, 1] > 0.999


def test_pink_noise_has_equal_power_in_every_octave():
    sound = tone(100, seconds=8, amplitude=0.01)
    noise = corrupt_audio(sound, "pink_noise", 3).samples - sound.samples
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[1000 * 2**octave : 2000 * 2**octave].sum() for octave in range(6)]
    assert max(octaves) / min(octaves) < 1.2


def test_clipping_amplifies_and_cuts_at_the_peak():
    sound = tone(100)
    for severity, gain in ((1, 2), (5, 20)):
        expected = np.clip(gain * sound.samples, -0.5, 0.5)
        np.testing.assert_allclose(corrupt_audio(sound, "clipping", severity).samples, expected, atol=1e-6)


def test_lost_packets_are_silent_and_lost_at_greater_severities_too():
    sound = Sound(np.full(16000, 0.5, np.float32), 16000)
    lost = [corrupt_audio(sound, "packet_loss", severity).samples.reshape(50, 320) == 0 for severity in SEVERITIES]
    for packets in lost:
        assert (packets.all(axis=1) == packets.any(axis=1)).all()
    assert [packets.all(axis=1).sum() for packets in lost] == [round(50 * 0.05 * 8 ** (n / 4)) for n in range(5)]
    assert all(not (weaker & ~stronger).any() for weaker, stronger in itertools.pairwise(lost))
    one = Sound(np.full(100, 0.5, np.float32), 16000)
    np.testing.assert_array_equal(corrupt_audio(one, "packet_loss", 5).samples, one.samples)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_pitch_and_speed_are_those_that_are_asked_for(rate):
    sound = tone(500, 0.5, rate)
    for kind, first, last in (("pitch", 1.06, 1.5), ("speed", 1.08, 1.6)):
        found = set()
        for seed in range(5):
            corrupted = corrupt_audio(sound, kind, 4, seed)
            factor = heard_frequency(corrupted) / 500
            expected = first * (last / first) ** 0.75
            assert max(factor, 1 / factor) == pytest.approx(expected, rel=0.015)
            found.add(factor > 1)
            length = 1 if kind == "pitch" else factor
            assert len(corrupted.samples) == pytest.approx(0.5 * rate / length, rel=0.015)
        assert found == {False, True}  # both directions are drawn


def test_a_telephone_passes_its_band_alone():
    for severity, top in ((1, 3400), (5, 1300)):
        for frequency, passes in ((100, False), (600, True), (0.8 * top, True), (2 * top, False)):
            sound = tone(frequency)
            share = np.std(corrupt_audio(sound, "telephone", severity).samples[4000:-4000]) / np.std(sound.samples)
            assert (share > 0.8) if passes else (share < 0.1), (severity, frequency, share)


def test_quantisation_leaves_so_many_levels():
    ramp = Sound(np.linspace(-0.5, 0.5, 4001, dtype=np.float32), 16000)
    for severity, steps in ((1, 32), (3, 8), (5, 2)):
        assert len(np.unique(corrupt_audio(ramp, "quantisation", severity).samples)) == 2 * steps + 1


def test_a_room_answers_a_click_with_a_tail_that_decays():
    click = Sound(np.zeros(32000, np.float32), 16000)
    click.samples[100] = 0.1
    for severity, seconds in ((3, 0.4), (5, 1.6)):
        answer = corrupt_audio(click, "reverberation", severity).samples / 0.1
        assert np.abs(answer[:100]).max() < 1e-12
        assert answer[100] == pytest.approx(1, rel=1e-4)
        energy = answer[101:].astype(float) ** 2
        assert energy.sum() == pytest.approx(seconds / 0.4, rel=0.01)
        pieces = energy[: round(seconds * 16000) // 8 * 8].reshape(8, -1).sum(axis=1)
        decibels = 10 * np.log10(pieces)
        assert np.polyfit(np.arange(8) * seconds / 8, decibels, 1)[0] == pytest.approx(-60 / seconds, rel=0.05)


def test_a_file_is_read_and_written_without_a_loss():
    pytest.importorskip("soundfile")
    for sound in (*sounds(), *sounds(8000)):
        read = read_sound(write_sound(sound))
        assert read.rate == sound.rate
        np.testing.assert_array_equal(read.samples, sound.samples)


def test_channels_are_mixed_and_what_is_too_loud_is_softened(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    stereo = np.array([[0.5, -0.1], [1.0, 0.2], [2.0, 1.0]], np.float32)
    soundfile.write(tmp_path / "stereo.wav", stereo, 8000, subtype="FLOAT")
    sound = read_sound({"bytes": None, "path": str(tmp_path / "stereo.wav")})
    assert sound.rate == 8000
    np.testing.assert_allclose(sound.samples, np.array([0.2, 0.6, 1.5]) / 1.5, rtol=1e-6)


@pytest.mark.slow
def test_images_and_texts_do_without_scipy():
    code = "import sys, ftp_hf.corruptions; print(sorted({'scipy', 'soundfile'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_what_is_refused():
    sound = sounds()[0]
    with pytest.raises(ValueError, match=r"kind='fog' is no corruption.*babble, clipping, .*white_noise"):
        corrupt_audio(sound, "fog", 1)
    for severity in (0, 6, 1.5):
        with pytest.raises(ValueError, match=r"severity=.* must be a whole number from 1 to 5"):
            corrupt_audio(sound, "babble", severity)
    with pytest.raises(TypeError, match=r"sound must be a Sound\(samples, rate\), got ndarray"):
        corrupt_audio(sound.samples, "babble", 1)
    with pytest.raises(TypeError, match="must be floats from -1 to 1, got int16"):
        corrupt_audio(Sound(np.zeros(4, np.int16), 8000), "babble", 1)
    for samples in ([0.5, 1.5], [np.nan, 0], [0, -np.inf]):
        with pytest.raises(ValueError, match="must be from -1 to 1: divide them by their peak"):
            corrupt_audio(Sound(np.array(samples, np.float32), 8000), "babble", 1)
    with pytest.raises(ValueError, match=r"one channel, got the shape \(2, 8000\)"):
        corrupt_audio(Sound(np.zeros((2, 8000), np.float32), 8000), "babble", 1)
    with pytest.raises(ValueError, match="rate=16 must be at least 4000 samples a second"):
        corrupt_audio(Sound(sound.samples, 16), "babble", 1)
