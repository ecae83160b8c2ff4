"""
What is in street scenes, as data sets for image classification with several classes each, and for regression.

    python examples/camvid/data.py FOLDER OUT_DIR

`FOLDER` has the frames of CamVid (Brostow et al. 2009) as a Parquet file a sequence, with the columns `image`, `mask` (classes of
pixels) and `split`. `OUT_DIR` gets

| file                                  | sequence        | frames  | for                                                      |
| ------------------------------------- | --------------- | ------: | -------------------------------------------------------- |
| train.parquet, validation.parquet     | 0016E5, by day  | 204, 101 | fine-tuning, and choosing hyper-parameters              |
| test.parquet                          | 0006R0, by day  |     101 | in distribution: other streets, the same light           |
| ood_another_day.parquet, ood_dusk.parquet | Seq05VD, 0001TP | 171, 124 | out of distribution                                  |

Columns: `image`; `occurring`, the list of the classes that have one in a hundred of the labelled pixels or more, of all classes
but sky and road, which every frame has; and `road`, the share of the labelled pixels that are road, from 0 to 1.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars

CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]
"""Of the masks, by index; what is above them is not labelled."""
TOLD = [name for name in CLASSES if name not in ("sky", "road")]
LEAST_SHARE = 0.01
"""Of the pixels: a class that has fewer of them is too small to be told at the size that models see."""
PARTS = {
    "train": ("0016E5", "train"),
    "validation": ("0016E5", "val"),
    "test": ("0006R0", None),
    "ood_another_day": ("Seq05VD", None),
    "ood_dusk": ("0001TP", None),
}
"""The sequence of each file, and which split of it; by default all of it."""


def shares(mask: Any) -> dict[str, float]:
    """The share of each class of the labelled pixels."""
    counts = np.bincount(np.asarray(mask).ravel(), minlength=len(CLASSES))[: len(CLASSES)]
    return dict(zip(CLASSES, (counts / max(1, counts.sum())).tolist(), strict=True))


def describe(frame: Mapping[str, Any]) -> dict[str, Any]:
    """What occurs in a frame, and how much of it is road."""
    share = shares(frame["mask"])
    return {
        "occurring": [number for number, name in enumerate(TOLD) if share[name] >= LEAST_SHARE],
        "road": share["road"],
    }


def load(folder: Path, sequence: str, split: str | None) -> Dataset:
    """A sequence, or a split of it, with what is in its frames."""
    frames = Dataset.from_parquet(str(folder / f"{sequence}.parquet"))
    if split is not None:
        frames = frames.select([row for row, of_row in enumerate(frames["split"]) if of_row == split])
    features = Features(
        {"image": frames.features["image"], "occurring": List(ClassLabel(names=TOLD)), "road": Value("float64")}
    )
    return frames.map(describe, remove_columns=["mask", "split"], features=features)


def main(folder: Path, out_dir: Path) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, (sequence, split) in PARTS.items():
        load(folder, sequence, split).to_parquet(out_dir / f"{name}.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Write the frames of each part, and what is in them, as Parquet files."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out_dir", type=Path)
    arguments = parser.parse_args()
    disable_progress_bars()
    main(arguments.folder, arguments.out_dir)
