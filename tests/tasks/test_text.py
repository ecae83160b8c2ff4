import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer

from ftp_hf.tasks import TextOptions, TextTask
from ftp_hf.tasks.multi_label import MultiLabelTextTask
from ftp_hf.tasks.regression import TextRegressionTask
from ftp_hf.tasks.specs import DatasetSpec
from tests.support.models import save_bert
from tests.support.tiny_language import save_llama

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]


@pytest.fixture
def task(tmp_path):
    options = TextOptions(text_columns=["text", "sentence"], max_length=4)
    return TextTask(str(save_bert(tmp_path / "bert", words=WORDS)), options, labels=["negative", "positive"])


def test_texts_become_tokens_that_the_model_takes(task):
    data = Dataset.from_dict({"sentence": ["bad film", "a good film"], "label": [0, 1]})
    prepared = task.prepare(data, corrupt=lambda text: text.replace("good", "bad"))
    assert prepared["input_ids"][:] == [[2, 7, 8, 3], [2, 5, 7, 3]], "cut to four, with [CLS] and [SEP]"
    assert prepared["label"][:] == [0, 1]
    model = task.load_model()
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model(**task.collator(list(prepared))).logits.shape == (2, 2)


@pytest.mark.parametrize("columns", [["words"], ["text", "sentence"]])
def test_one_column_of_texts_is_expected(task, columns):
    with pytest.raises(ValueError, match=r"expected one text column of .* in few with the columns"):
        task.check("few", Dataset.from_dict({column: ["a film"] for column in columns}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a film,0\n,1\n", "row 1 of few has no text in 'text', but None: write one, or leave it out"),
        ("7,0\n8,1\n", "row 0 of few has no text in 'text', but 7: write one"),
    ],
)
def test_cells_without_a_text_are_refused(task, tmp_path, rows, message):
    file = tmp_path / "few.csv"
    file.write_text(f"text,label\n{rows}")
    with pytest.raises(ValueError, match=message):
        task.check("few", DatasetSpec.parse(str(file)).numbered()[0])


def test_several_classes_of_a_row_are_refused(task):
    with pytest.raises(ValueError, match=r"'label' of few must hold one class for each row, not List\(.* multi-label$"):
        task.check("few", Dataset.from_dict({"text": ["a film"], "label": [[0, 1]]}))
    with pytest.raises(
        ValueError, match=r"no column 'label' in few with the columns \['text'\]: name it in label_column$"
    ):
        task.check("few", Dataset.from_dict({"text": ["a film"]}))


def test_a_text_of_no_characters_is_one(task):
    task.check("few", Dataset.from_dict({"text": [""], "label": [0]}))


def test_texts_of_like_length_are_measured_together(task):
    class Batches:
        def evaluate(self, rows):
            self.lengths = [len(tokens) for tokens in rows["input_ids"]]
            self.labels = rows["label"][:]
            return {"eval_accuracy": 0.5}

    data = Dataset.from_dict({"text": ["film", "a film", "good", "bad film"], "label": [0, 1, 0, 1]})
    trainer = Batches()
    assert task.measure(trainer, data) == {"eval_accuracy": 0.5}
    assert (trainer.lengths, trainer.labels) == ([4, 4, 3, 3], [1, 1, 0, 0])


@pytest.mark.parametrize("kind", [TextTask, MultiLabelTextTask, TextRegressionTask])
@pytest.mark.parametrize("given", [{}, {"pad_token": None}])
def test_decoders_without_a_padding_token_read_texts_of_several_lengths(tmp_path, kind, given):
    save_llama(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.pad_token_id = None
    config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path, **given).save_pretrained(tmp_path)
    task = kind(str(tmp_path), labels=["negative", "positive"])
    assert task.processor.pad_token == ("<eos>" if given else "<pad>")
    rows = Dataset.from_dict({"text": ["red", "one and two is blue"], "label": [[0], [1]], "score": [0.0, 1.0]})
    if kind is TextTask:
        rows = rows.remove_columns("label").add_column("label", [0, 1])
    model = task.load_model().eval()
    [together], alone = task.batches(rows, 2), task.batches(rows, 1)
    with torch.no_grad():
        logits = torch.cat([task.logits(model, batch)[0] for batch in reversed(alone)])
        torch.testing.assert_close(task.logits(model, together)[0], logits)
