"""Natural corruptions of images, texts and sounds in five severities, from which OOD sets are made.

In the spirit of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261): everyday damage, graded from barely
visible (1) to hard for a model but not for a person (5), so that accuracy can be drawn against severity.

A corruption is a pure function of the value, the kind, the severity and the seed. It draws from a generator that is
seeded by all of them but the severity, so that

- neither the order of the rows, nor batches, shards, workers or processes change what comes out,
- equal values are corrupted equally, and
- the severities of one value share their draw: the places that severity 3 hits, severity 4 hits too, and blurs keep
  their direction. Differences along a severity curve are due to the severity. (Only shot noise counts its photons again.)

Images need Pillow (`pip install "ftp-hf[demo]"`), sounds SciPy and soundfile (`pip install "ftp-hf[audio]"`). Any function
of a value takes the place of [`corruption`] in a transform of `datasets`.
"""

from .audio import AUDIO_CORRUPTIONS, corrupt_audio
from .datasets import corrupted, corruption
from .images import DENSE_IMAGE_CORRUPTIONS, IMAGE_CORRUPTIONS, corrupt_image
from .rgb import to_rgb
from .sounds import Sound, read_sound, write_sound
from .strength import SEVERITIES
from .texts import TEXT_CORRUPTIONS, corrupt_text

__all__ = [
    "AUDIO_CORRUPTIONS",
    "DENSE_IMAGE_CORRUPTIONS",
    "IMAGE_CORRUPTIONS",
    "SEVERITIES",
    "TEXT_CORRUPTIONS",
    "Sound",
    "corrupt_audio",
    "corrupt_image",
    "corrupt_text",
    "corrupted",
    "corruption",
    "read_sound",
    "to_rgb",
    "write_sound",
]
