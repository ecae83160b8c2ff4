"""
Digits spoken by two Americans to train on, and by four speakers of other tongues, as data sets of sounds.

    python examples/speech/data.py FOLDER OUT_DIR

`FOLDER` has the Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0) as a
Parquet file a speaker: ten digits, 50 takes of each, with the columns `audio` (WAV, 8 kHz), `text` ("seven"), `label` and
`take`. `OUT_DIR` gets

| file                  | speakers      | takes | clips | for                                                             |
| --------------------- | ------------- | ----- | ----: | --------------------------------------------------------------- |
| train.parquet         | jackson, theo | 10–49 |   800 | fine-tuning                                                     |
| validation.parquet    | jackson, theo |   5–9 |   100 | choosing hyper-parameters                                       |
| test.parquet          | jackson, theo |   0–4 |   100 | word errors and accuracy in distribution                        |
| ood_SPEAKER.parquet   | each other    |   0–4 |    50 | other accents: Greek (george), German (lucas, yweweler), Belgian French (nicolas) |
"""

import argparse
from pathlib import Path

from datasets import ClassLabel, Dataset, concatenate_datasets, disable_progress_bars

LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
AMERICANS = ("jackson", "theo")
OTHERS = ("george", "lucas", "nicolas", "yweweler")
TAKES = {"train": range(10, 50), "validation": range(5, 10), "test": range(5)}


def load(folder: Path, speakers: tuple[str, ...], takes: range) -> Dataset:
    """The takes of these speakers."""
    clips = concatenate_datasets([Dataset.from_parquet(str(folder / f"{speaker}.parquet")) for speaker in speakers])
    clips = clips.select([row for row, take in enumerate(clips["take"]) if take in takes])
    return clips.select_columns(["audio", "text", "label"]).cast_column("label", ClassLabel(names=LABELS))


def main(folder: Path, out_dir: Path) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    for split, takes in TAKES.items():
        load(folder, AMERICANS, takes).to_parquet(out_dir / f"{split}.parquet")
    for speaker in OTHERS:
        load(folder, (speaker,), TAKES["test"]).to_parquet(out_dir / f"ood_{speaker}.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the digits of each part as Parquet files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out_dir", type=Path)
    arguments = parser.parse_args()
    disable_progress_bars()
    main(arguments.folder, arguments.out_dir)
