"""Photographs, texts and sounds to corrupt."""

import hashlib
from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from ftp_hf.corruptions import (
    AUDIO_CORRUPTIONS,
    IMAGE_CORRUPTIONS,
    TEXT_CORRUPTIONS,
    Sound,
    corrupt_audio,
    corrupt_image,
    corrupt_text,
)

TEXTS = [
    "Despite the slow start, it's a smart, funny and deeply moving film that I would gladly watch again.",
    "The acting was terrible; the plot (what there was of it) made no sense. I want my two hours back!",
    'She whispered "not now" - and, for once, nobody in the crowded little theatre dared to laugh.',
    "An overlong, badly edited, but strangely charming mess: go with friends, or do not go at all.",
]


@cache
def photographs(side):
    """Eight squares of two photographs."""
    return [
        Image.fromarray(photograph[100:400, left : left + 300]).resize((side, side), Image.Resampling.BOX)
        for photograph in load_sample_images().images
        for left in (0, 100, 200, 300)
    ]


@cache
def sounds(rate=16000):
    """Three of a second: harmonics of a voice that rises, in syllables; and one of a hundredth of a second."""
    time = np.arange(rate) / rate
    voices = [
        sum(np.sin(2 * np.pi * h * (pitch * time + 20 * time**2)) / h for h in range(1, 12)) * np.sin(14 * time) ** 2
        for pitch in (110, 150, 210)
    ]
    loud = [0.5 * voice / np.abs(voice).max() for voice in voices]
    return [Sound(voice.astype(np.float32), rate) for voice in (*loud, loud[0][: rate // 100])]


def digest():
    """Of every kind, applied to everything."""
    outcome = hashlib.sha256()
    for kind in IMAGE_CORRUPTIONS:
        for image in photographs(32):
            outcome.update(corrupt_image(image, kind, 3).tobytes())
    for kind in TEXT_CORRUPTIONS:
        for text in TEXTS:
            outcome.update(corrupt_text(text, kind, 3).encode())
    for kind in AUDIO_CORRUPTIONS:
        for sound in sounds():
            outcome.update(corrupt_audio(sound, kind, 3).samples.tobytes())
    return outcome.hexdigest()
