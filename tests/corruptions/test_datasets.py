"""Corruptions of a column of a data set, and of values in any process."""

import os
import pickle
import subprocess
import sys

import pytest
from datasets import Dataset, Features, Image, Value
from torch.utils.data import DataLoader

from ftp_hf.corruptions import (
    IMAGE_CORRUPTIONS,
    corrupt_text,
    corrupted,
    corruption,
)
from tests.support.samples import TEXTS, digest, photographs


def texts():
    return Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1]})


def pictures():
    return Dataset.from_dict(
        {"image": photographs(32), "label": [0.0] * 8}, features=Features(image=Image(), label=Value("float32"))
    )


@pytest.mark.slow
def test_another_process_corrupts_the_same_way():
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "from tests.support.samples import digest; print(digest())"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == digest()


@pytest.mark.parametrize("kind", ["gaussian_noise", "keyboard_typos"])
def test_neither_order_nor_batches_nor_shards_nor_workers_matter(kind):
    dataset, column = (pictures(), "image") if kind in IMAGE_CORRUPTIONS else (texts(), "text")
    expected = [corruption(kind, 4, seed=7)(value) for value in dataset[column]]
    lazy = corrupted(dataset, column, kind, 4, seed=7)
    count = len(dataset)
    assert lazy[:][column] == expected
    assert [row[column] for row in lazy] == expected
    assert list(lazy[column]) == expected
    assert [lazy[index][column] for index in reversed(range(count))] == expected[::-1]
    assert lazy.shard(2, 1)[:][column] == expected[1::2] or lazy.shard(2, 1)[:][column] == expected[count // 2 :]
    assert lazy.select([2, 0])[:][column] == [expected[2], expected[0]]
    for size, workers in ((1, 0), (3, 0), (2, 2)):
        loaded = DataLoader(lazy, batch_size=size, num_workers=workers, collate_fn=lambda rows: rows)
        assert [row[column] for batch in loaded for row in batch] == expected


def test_the_rest_of_the_data_set_is_left_alone():
    dataset = texts()
    lazy = corrupted(dataset, "text", "word_swap", 2)
    assert lazy.column_names == dataset.column_names
    assert lazy.features == dataset.features
    assert lazy["label"][:] == dataset["label"][:]
    assert lazy.remove_columns("text")[:] == {"label": dataset["label"][:]}
    assert dataset["text"][:] == TEXTS


def test_it_is_lazy(monkeypatch):
    calls = []
    monkeypatch.setattr("ftp_hf.corruptions.datasets.corrupt_text", lambda text, **_: calls.append(text) or text)
    lazy = corrupted(texts(), "text", "word_swap", 2)
    assert calls == []
    _ = lazy[2]
    assert calls == [TEXTS[2]]


def test_map_sees_the_corrupted_values():
    lengths = corrupted(texts(), "text", "character_deletion", 5).map(lambda row: {"length": len(row["text"])})
    assert lengths.with_format(None)["length"][:] == [
        len(corrupt_text(text, "character_deletion", 5)) for text in TEXTS
    ]


@pytest.mark.parametrize("kind", ["fog", "word_swap"])
def test_a_corruption_can_be_pickled(kind):
    value = photographs(32)[0] if kind == "fog" else TEXTS[0]
    function = corruption(kind, 2, 5)
    assert pickle.loads(pickle.dumps(function))(value) == function(value) != value


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"kind='snow'.*brightness, .*zoom_blur, character_deletion, .*word_swap"):
        corruption("snow", 1)
    with pytest.raises(ValueError, match=r"severity=0 must be a whole number from 1 to 5"):
        corruption("fog", 0)
    with pytest.raises(ValueError, match=r"column='sentence' is not in the data set; it has text, label"):
        corrupted(texts(), "sentence", "word_swap", 1)
    for dataset, column, kind in (
        (texts(), "text", "fog"),
        (texts(), "label", "word_swap"),
        (pictures(), "image", "word_swap"),
    ):
        with pytest.raises(ValueError, match=rf"column='{column}' holds .* but kind='{kind}' is for (images|texts)"):
            corrupted(dataset, column, kind, 1)
    for dataset in (texts().with_transform(lambda batch: batch), texts().with_format("numpy")):
        with pytest.raises(ValueError, match=r"has the format '(custom|numpy)', which the corruption would replace"):
            corrupted(dataset, "text", "word_swap", 1)
