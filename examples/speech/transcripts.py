"""
What speech recognisers write of the first clips of a data set, beside what is said.

    python examples/speech/transcripts.py CLIPS MODEL [MODEL ...]

`CLIPS` is a Parquet file with the columns `audio` (mono, 16 kHz) and `text`, each `MODEL` a folder that `from_pretrained` loads.
"""

import argparse
import io
from pathlib import Path

import soundfile
from datasets import Audio, Dataset, disable_progress_bars
from transformers import pipeline
from transformers.utils import logging


def main(clips: Path, models: list[str], count: int) -> None:
    rows = Dataset.from_parquet(str(clips)).select(range(count)).cast_column("audio", Audio(decode=False))
    sounds = [soundfile.read(io.BytesIO(clip["bytes"]), dtype="float32") for clip in rows["audio"]]
    heard = {
        model: pipeline("automatic-speech-recognition", model)(
            [{"raw": raw, "sampling_rate": rate} for raw, rate in sounds]
        )
        for model in models
    }
    for number, text in enumerate(rows["text"]):
        print(f"said: {text}")
        for model, answers in heard.items():
            print(f"{model}: {answers[number]['text'].strip()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, default=1, help="how many clips, the first ones of the file")
    arguments = parser.parse_args()
    if not arguments.clips.is_file():
        parser.error(f"there is no file {arguments.clips}")
    disable_progress_bars()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    main(arguments.clips, arguments.models, arguments.count)
