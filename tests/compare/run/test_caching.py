import gc

import pytest
import torch
from datasets import Dataset
from datasets.fingerprint import Hasher
from transformers import BertModel

from ftp_hf.compare.run.caching import KeptAnswers, KeptRows, Room, preparing_once
from ftp_hf.function_distance import function_distance
from ftp_hf.pretrained import new_parameters
from ftp_hf.tasks import Task, TextTask
from ftp_hf.tasks.image import ImageOptions, ImageTask
from tests.support.models import save_bert

ROW_BYTES = 16


@pytest.fixture
def made():
    """Which rows were made, in the order in which they were."""
    return []


@pytest.fixture
def rows(made):
    def transform(batch):
        made.extend(batch["number"])
        return {"x": [torch.full((4,), float(number)) for number in batch["number"]], "label": batch["number"]}

    return Dataset.from_dict({"number": [0, 1, 2, 3]}).with_transform(transform)


def test_each_row_is_made_once(rows, made):
    kept = KeptRows(rows, Room())
    assert isinstance(kept, Dataset)
    assert len(kept) == 4
    assert kept.column_names == rows.column_names
    first = kept.__getitems__([2, 0, 2])
    assert [row["label"] for row in first] == [2, 0, 2]
    assert set(made) == {0, 2}
    first[0].pop("label")  # which a collator may do
    made.clear()
    assert kept[2]["label"] == 2
    assert [row["label"] for row in kept.__getitems__([0, 1])] == [0, 1]
    assert made == [1]
    assert [row["label"] for row in (kept[row] for row in range(len(kept)))] == [0, 1, 2, 3]


def test_rows_without_room_are_made_again(rows, made):
    kept = KeptRows(rows, Room(2 * (ROW_BYTES + 10)))
    for _ in range(2):
        assert [int(row["x"][0]) for row in kept.__getitems__([0, 1, 2, 3])] == [0, 1, 2, 3]
    assert made == [0, 1, 2, 3, 2, 3]


def test_workers_of_a_loader_read_the_same(rows):
    loader = torch.utils.data.DataLoader(KeptRows(rows, Room()), batch_size=2, num_workers=1)
    assert [batch["label"].tolist() for batch in loader] == [[0, 1], [2, 3]]


class Tens(Task):
    name, metrics = "tens", ()

    def prepare(self, dataset, *, augment=False, corrupt=None):
        del augment
        change = corrupt or int
        return dataset.with_transform(lambda batch: {"x": [10 * change(number) for number in batch["number"]]})


def test_a_task_prepares_a_data_set_once():
    numbers, task = Dataset.from_dict({"number": [1, 2]}), preparing_once(Tens, Room())("model")
    assert isinstance(task, Tens)
    before = Hasher.hash(task)
    prepared = task.prepare(numbers)
    assert list(prepared) == [{"x": 10}, {"x": 20}] == [prepared[0], prepared[1]]
    assert task.prepare(numbers) is prepared
    assert task.prepare(numbers, corrupt=lambda number: -number)[0] == {"x": -10}
    assert task.prepare(numbers, augment=True) is not task.prepare(numbers, augment=True)
    # Of which the fingerprints of other data sets are made.
    assert Hasher.hash(task) == before


class SameTens(Tens):
    augments = False


def test_training_rows_that_are_not_augmented_are_kept_beside_the_others():
    numbers, task = Dataset.from_dict({"number": [1, 2]}), preparing_once(SameTens, Room())("model")
    train = task.prepare(numbers, augment=True)
    assert isinstance(train, KeptRows)
    assert task.prepare(numbers, augment=True) is train
    assert task.prepare(numbers) is not train  # a task may sort what it trains on


def test_a_task_that_prepares_in_its_own_way_says_anew_whether_it_augments():
    class Cropping(SameTens):
        def prepare(self, dataset, *, augment=False, corrupt=None):
            return super().prepare(dataset, augment=augment, corrupt=corrupt)

    numbers, task = Dataset.from_dict({"number": [1, 2]}), preparing_once(Cropping, Room())("model")
    assert task.prepare(numbers, augment=True) is not task.prepare(numbers, augment=True)
    assert task.prepare(numbers) is task.prepare(numbers)


def test_room_is_given_back_with_the_rows_that_had_it(rows):
    room = Room(2 * (ROW_BYTES + 10))
    kept = KeptRows(rows, room)
    kept.__getitems__([0, 1])
    assert not room.take(2 * ROW_BYTES)
    del kept
    gc.collect()
    assert room.take(2 * ROW_BYTES)


@pytest.mark.parametrize("flips", [True, False])
def test_images_are_augmented_if_they_are_flipped(flips):
    task = object.__new__(ImageTask)
    task.options = ImageOptions(random_flip=flips)
    assert task.augments is flips


def test_answers_are_made_once_while_there_is_room():
    known, asked = KeptAnswers(Room(40)), []

    def answer(key, size):
        def make():
            asked.append(key)
            return torch.ones(size)

        return known.get(key, make)

    assert [len(answer(key, size)) for key, size in (("a", 8), ("b", 8), ("a", 8), ("b", 8), ("c", 2))] == [
        8,
        8,
        8,
        8,
        2,
    ]
    assert asked == ["a", "b", "b", "c"]


def test_the_distance_is_that_of_both_models():
    torch.manual_seed(0)
    model, pretrained = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    batches = [{"x": torch.randn(4, 3), "counted": torch.tensor([True, False, True, True])} for _ in range(2)]
    found = function_distance(model, pretrained, batches, lambda m, batch: (m(batch["x"]), batch["counted"]))
    before, after = (
        torch.cat([m(batch["x"])[batch["counted"]] for batch in batches]).log_softmax(-1) for m in (pretrained, model)
    )
    assert found == pytest.approx(((before.exp() * (before - after)).sum(-1).mean()).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_16_bits_are_compared_in_float32(tmp_path, dtype):
    folder = save_bert(tmp_path)
    BertModel.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    task = preparing_once(TextTask, Room())(str(folder), labels=["bad", "good"])
    model = task.load_model()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    held = BertModel.from_pretrained(folder)
    assert held.dtype == dtype
    for name, parameter in model.bert.named_parameters():
        assert torch.equal(parameter, held.get_parameter(name).float())
    assert new_parameters(model) == {"classifier.weight", "classifier.bias"}


def test_quantized_models_stay_as_they_are(tmp_path):
    class Quantized(TextTask):
        def load_model(self, **options):
            model = super().load_model(**options).bfloat16()
            model.is_quantized = True
            return model

    task = preparing_once(Quantized, Room())(str(save_bert(tmp_path)), labels=["bad", "good"])
    assert task.load_model().dtype == torch.bfloat16
