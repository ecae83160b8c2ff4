"""
Made-up requests with the people, cities, dates and sums of money in them tagged, for token classification; and which of the
four a request mentions, for text classification with several classes each.

    python examples/tagging/data.py build/tagging

Sentences are drawn from templates whose gaps are filled from lists. The gaps are ambiguous on purpose: Florence, Jordan and
Charlotte are people or cities, May is a month or a verb.

| file | templates | names, cities and forms of dates and sums |
| --- | --- | --- |
| `train`, `validation`, `test` (ID) | requests as they are written in letters | those of one half |
| `ood_values` | the same | those of the other half |
| `ood_phrasing` | messages as they are typed in a chat | those of the first half |
| `ood_both` | messages | those of the other half |

Columns: `words` and `tags`, lists of one length; tags in IOB2 (`O`, `B-PERSON`, `I-PERSON`, …). `text`, the words as one string,
and `mentions`, the list of the kinds that occur in it, which may be empty.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars
from numpy.random import Generator, default_rng

KINDS = ["PERSON", "CITY", "DATE", "MONEY"]
TAGS = ["O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI")]
SIZES = {"train": 600, "validation": 150, "test": 300}

_MONTHS = ["January", "March", "May", "June", "August", "October"]
_SURNAMES = ["Miller", "Okafor", "Rossi", "van Dyke", "Kim", "Haddad", "Lindqvist", "O'Neill"]

VALUES = {
    "PERSON": [
        f"{first} {last}" for first in ("Florence", "Jordan", "Anna", "Peter", "Mei", "Omar") for last in _SURNAMES
    ],
    "CITY": ["Florence", "Jordan Falls", "New York", "Berlin", "Lagos", "San Juan", "Oslo", "Rio de Janeiro", "Kyoto"],
    "DATE": [f"{day} {month}" for day in (1, 4, 17, 23, 30) for month in _MONTHS] + ["tomorrow", "next Monday"],
    "MONEY": [f"{sum_} {unit}" for sum_ in (12, 40, 99, 250, 1300) for unit in ("euros", "dollars", "pounds")],
}
OTHER_VALUES = {
    "PERSON": [
        "Charlotte",
        "Austin Park",
        "Dr. Ibrahim",
        "Aunt May",
        "J. K. Sandhu",
        "Sofia",
        "Victoria Lisbon",
        "Ravi Patel",
    ],
    "CITY": [
        "Charlotte",
        "Austin",
        "Lisbon",
        "Ho Chi Minh City",
        "St. Louis",
        "Victoria",
        "Addis Ababa",
        "Leeds",
        "Sofia",
    ],
    "DATE": [
        "the 3rd of July",
        "Friday",
        "September 9 , 2027",
        "the day after tomorrow",
        "this weekend",
        "late November",
    ],
    "MONEY": ["$ 75", "eighty rupees", "half a million yen", "€ 19.90", "twenty bucks", "3k francs"],
}
LETTERS = [
    "Please book a flight from {CITY} to {CITY} on {DATE} for {PERSON} .",
    "I would like to transfer {MONEY} to {PERSON} before {DATE} .",
    "May I ask whether {PERSON} has arrived in {CITY} ?",
    "Could you tell me what a night in {CITY} costs on {DATE} ?",
    "{PERSON} and {PERSON} will visit our office in {CITY} on {DATE} .",
    "The invoice of {DATE} over {MONEY} has been paid by {PERSON} .",
    "A room in {CITY} for {MONEY} may be too expensive for us .",
    "Kindly remind {PERSON} that the rent of {MONEY} is due on {DATE} .",
    "There are no trains between {CITY} and {CITY} .",
    "Thank you for your letter , which reached me on {DATE} .",
    "Please let {PERSON} know that the meeting has been cancelled .",
]
MESSAGES = [
    "hey {PERSON} , are u still in {CITY} or back {DATE} ?",
    "cant believe {PERSON} paid {MONEY} for that lol",
    "{DATE} works , see you in {CITY} then !",
    "ok so {MONEY} each , {PERSON} owes me the rest",
    "who is picking up {PERSON} at the station ?",
    "omg {CITY} is so cold , may never come back",
    "cheapest flight is {MONEY} , {CITY} - {CITY} , leaves {DATE}",
    "pls ask {PERSON} if {DATE} is fine",
    "no idea , march on i guess",
]


def draw(templates: Sequence[str], values: Mapping[str, Sequence[str]], rng: Generator) -> tuple[list[str], list[str]]:
    """The words of a sentence, and their tags."""
    words, tags = [], []
    for part in str(rng.choice(templates)).split():
        if part.startswith("{"):
            filling = str(rng.choice(values[kind := part.strip("{}")])).split()
            words += filling
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(filling) - 1)]
        else:
            words.append(part)
            tags.append("O")
    return words, tags


def make(rows: int, templates: Sequence[str], values: Mapping[str, Sequence[str]], rng: Generator) -> Dataset:
    """A data set of so many sentences."""
    words, tags = zip(*(draw(templates, values, rng) for _ in range(rows)), strict=True)
    tagged = {"words": List(Value("string")), "tags": List(ClassLabel(names=TAGS))}
    features = Features({**tagged, "text": Value("string"), "mentions": List(ClassLabel(names=KINDS))})
    mentions = [[kind for kind in KINDS if f"B-{kind}" in of_sentence] for of_sentence in tags]
    texts = [" ".join(sentence) for sentence in words]
    return Dataset.from_dict({"words": list(words), "tags": list(tags), "text": texts, "mentions": mentions}, features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out_dir", type=Path)
    folder = parser.parse_args().out_dir
    folder.mkdir(parents=True, exist_ok=True)
    disable_progress_bars()
    rng = default_rng(0)
    made = {name: make(rows, LETTERS, VALUES, rng) for name, rows in SIZES.items()}
    made["ood_values"] = make(SIZES["test"], LETTERS, OTHER_VALUES, rng)
    made["ood_phrasing"] = make(SIZES["test"], MESSAGES, VALUES, rng)
    made["ood_both"] = make(SIZES["test"], MESSAGES, OTHER_VALUES, rng)
    for name, dataset in made.items():
        dataset.to_parquet(folder / f"{name}.parquet")


if __name__ == "__main__":
    main()
