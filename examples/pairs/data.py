"""
Pairs of classified texts, to tune an embedding model by: texts of one class are alike (`score` 1), those of two are not (0).

    python examples/pairs/data.py ../shared/data/text/sst2/train.parquet build/pairs/train.parquet --per_class 32 --pairs 800

With few labelled texts the pairs are still many: 32 of each of two classes make 2,016. The columns `sentence1`, `sentence2` and
`score` are those of the task sentence-similarity.
"""

import argparse
from pathlib import Path

from datasets import Dataset, disable_progress_bars, load_dataset
from numpy.random import Generator, default_rng


def labelled(dataset: Dataset, per_class: int, rng: Generator) -> dict[int, list[str]]:
    """
    So many texts of each class, drawn without replacement.

    Raises:
        ValueError: a class has fewer.
    """
    by_class: dict[int, list[str]] = {}
    for text, label in zip(dataset["text"], dataset["label"], strict=True):
        by_class.setdefault(label, []).append(text)
    if short := {label: len(texts) for label, texts in by_class.items() if len(texts) < max(per_class, 2)}:
        raise ValueError(
            f"--per_class {per_class} is more than there are of some classes: {short}; two at least are needed"
        )
    return {
        label: [texts[index] for index in rng.permutation(len(texts))[:per_class]]
        for label, texts in sorted(by_class.items())
    }


def pair(by_class: dict[int, list[str]], count: int, rng: Generator) -> Dataset:
    """So many pairs, half of them of one class."""
    rows = []
    for number in range(count):
        label = rng.choice(list(by_class))
        if number % 2:
            other = rng.choice([each for each in by_class if each != label])
            first, second = rng.choice(by_class[label]), rng.choice(by_class[other])
        else:
            first, second = rng.choice(by_class[label], size=2, replace=False)
        rows.append({"sentence1": str(first), "sentence2": str(second), "score": float(number % 2 == 0)})
    return Dataset.from_list(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("texts", help="a Parquet file with the columns text and label")
    parser.add_argument("output", type=Path)
    parser.add_argument("--per_class", type=int, default=32, help="labelled texts that are used (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=800, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    disable_progress_bars()
    dataset = load_dataset("parquet", data_files=arguments.texts, split="train")
    rng = default_rng(arguments.seed)
    try:
        by_class = labelled(dataset, arguments.per_class, rng)
    except ValueError as error:
        parser.error(str(error))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    pair(by_class, arguments.pairs, rng).to_parquet(arguments.output)


if __name__ == "__main__":
    main()
