"""Sentences about people and places, with a tokenizer that takes some words apart."""

import shutil

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertForTokenClassification, EvalPrediction, PreTrainedTokenizerFast, TrainingArguments

from ftp_hf.compare import ComparisonConfig
from ftp_hf.corruptions import TEXT_CORRUPTIONS, corruption
from ftp_hf.function_distance import function_distance, hidden_change
from ftp_hf.tasks import DataOptions, TaskData
from ftp_hf.tasks.tagging import TaggingOptions, TaggingTask
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.models import save_bert, tiny_bert_config
from tests.support.task_comparisons import compare_whole_and_interrupted, save_sets, task_config
from tests.support.tiny_data import write_config

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ada", "##m", "lives", "in", "pa", "##ris", "rome", "."]
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
SENTENCES = [["adam", "ada", "lives", "in", "paris", "."], ["rome", "."]]
GIVEN = [[1, 2, 0, 0, 3, 0], [3, 0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"), words=WORDS)


@pytest.fixture
def task(folder):
    return make_task(folder)


def make_task(folder, tags=TAGS, **options):
    return TaggingTask(str(folder), TaggingOptions(**options), labels=tags, label_column="ner_tags")


def make_data(sentences=SENTENCES, given=GIVEN, tags=TAGS):
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=tags))})
    return Dataset.from_dict({"tokens": sentences, "ner_tags": given}, features)


def test_tags_are_those_of_the_first_tokens_of_words(task):
    prepared = task.prepare(make_data())
    assert prepared["input_ids"][0] == [2, 5, 6, 5, 7, 8, 9, 10, 12, 3]
    assert prepared["labels"][0] == [-100, 1, -100, 2, 0, 0, 3, -100, 0, -100]
    model = task.load_model()
    assert model.config.id2label == dict(enumerate(TAGS))
    batch = task.collator(list(prepared))
    assert batch["labels"][1].tolist() == [-100, 3, 0, -100, *[-100] * 6]
    assert model(**batch).logits.shape == (2, 10, 4)


def test_bytes_are_read_as_in_a_text(folder, tmp_path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = " ".join(SENTENCES[0])
    tokenizer.train_from_iterator([text] * 4, trainers.BpeTrainer(show_progress=False))
    shutil.copytree(folder, tmp_path / "bytes", ignore=shutil.ignore_patterns("*token*", "vocab.txt"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "bytes")
    task = make_task(tmp_path / "bytes")
    row = task.prepare(make_data())[0]
    assert row["input_ids"] == task.processor(text)["input_ids"]
    assert [label for label in row["labels"] if label != -100] == GIVEN[0]


def test_long_sentences_are_cut(folder):
    prepared = make_task(folder, max_length=5).prepare(make_data())
    assert prepared["labels"][0] == [-100, 1, -100, 2, -100]


def test_corruptions_keep_the_words_in_their_places(task):
    assert set(task.corruptions) <= set(TEXT_CORRUPTIONS)
    sentence = ["A", "man", "of", "Rome", ",", "who", "is", "-", "I", "say", "-", "60", "!"]
    for kind in task.corruptions:
        seen = []

        def corrupt(text, kind=kind, seen=seen):
            seen.append(corruption(kind, 5)(text))
            return seen[-1]

        prepared = task.prepare(make_data([sentence], [[0] * len(sentence)]), corrupt=corrupt)
        assert len(seen[0].split("\n")) == len(sentence), kind
        assert seen[0] != "\n".join(sentence), kind
        labels = prepared["labels"][0]
        assert sum(label != -100 for label in labels) == len(sentence), f"{kind}: a word without letters keeps its own"


def test_a_sentence_without_words_has_nothing_to_corrupt(task):
    data = make_data([[], ["rome"]], [[], [3]])
    task.check("few", data)
    assert task.prepare(data, corrupt=str.upper)["labels"][:] == [[-100, -100], [-100, 3, -100]]


def test_figures_are_those_computed_by_hand(task):
    labels = np.array([[-100, 1, -100, 2, 0, 3], [-100, 3, 0, -100, -100, -100]])
    answers = np.array([[0, 1, 3, 2, 0, 0], [0, 3, 3, 0, 0, 0]])
    scores = task.compute_metrics(EvalPrediction(answers, labels))
    # There: a person of two words and two places; answered: that person and two places, of which one is right.
    assert scores == {
        "f1": pytest.approx(2 / 3),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "token_accuracy": pytest.approx(4 / 6),
    }
    assert task.compute_metrics(EvalPrediction(np.eye(4)[answers], labels)) == scores, "of logits the same"
    of_types = task.by_class(EvalPrediction(answers, labels))
    assert of_types == {"f1": {"LOC": pytest.approx(2 / 4), "PER": 1.0}}


def test_evaluation_does_not_depend_on_the_batches(task, tmp_path):
    torch.manual_seed(0)
    model, found = task.load_model(), []
    data = make_data([*SENTENCES, [], SENTENCES[0]], [*GIVEN, [], GIVEN[0]])
    for size in (1, 2, 3):
        options = {"per_device_eval_batch_size": size, "use_cpu": True, "report_to": "none", **task.arguments()}
        trainer = PlainTrainer(model, TrainingArguments(tmp_path, **options), **task.trainer_options(model))
        found.append(task.measure(trainer, data))
        assert found[-1]["eval_loss"] == pytest.approx(found[0]["eval_loss"])
    assert {"eval_f1", "eval_precision", "eval_recall", "eval_token_accuracy"} <= found[0].keys()
    for name in ("eval_f1", "eval_token_accuracy"):
        assert found[0][name] == found[1][name] == found[2][name]
    with torch.no_grad():
        loss = model(**task.collator(list(task.prepare(data)))).loss.item()
    assert found[0]["eval_loss"] == pytest.approx(loss), "of words, each alike"


def test_distances_leave_out_what_does_not_count(folder):
    torch.manual_seed(0)
    task = make_task(folder)
    batches = task.batches(make_data(), 2)
    logits, counted = task.logits(task.load_model(), batches[0])
    assert logits.shape == (2, 10, 4)
    assert counted.sum() == 8, "words"
    states, counted = task.hidden(task.load_model(), batches[0])
    assert states.shape == (2, 10, 16)
    assert counted.sum() == 10 + 4, "tokens"
    model, before = task.load_model(), task.load_model()
    assert function_distance(model, before, batches, task.hidden, hidden_change) == 0
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.bias.add_(torch.linspace(0, 1, 16))
    assert function_distance(model, before, batches, task.hidden, hidden_change) > 0


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"word_column": "words"}, make_data(), r"no column 'words' in few .* name it in word_column"),
        ({}, make_data(given=[[0, 0], [0, 0]]), "row 0 of few has 6 words, but 2 tags"),
        ({}, Dataset.from_dict({"tokens": [["a"]], "ner_tags": [0]}), "'ner_tags' of few must hold lists"),
        ({}, make_data([["a"], None], [[0], [0]]), "row 1 of few has None in 'tokens', where nothing may be empty"),
        ({}, make_data([["a", None]], [[0, 0]]), r"row 0 of few has \['a', None\] in 'tokens', where nothing"),
        ({}, make_data([["a"], ["b"]], [[0], None]), "row 1 of few has None in 'ner_tags', where nothing may be empty"),
        ({}, Dataset.from_dict({"tokens": [["a"]]}), r"no column 'ner_tags' in few .* name it in label_column"),
    ],
)
def test_data_that_cannot_be_read_are_refused(folder, options, data, message):
    with pytest.raises(ValueError, match=message):
        make_task(folder, **options).check("few", data)


def test_tags_want_names(folder, tmp_path):
    numbers = Dataset.from_dict({"tokens": SENTENCES, "ner_tags": GIVEN})
    files = save_sets(tmp_path, train=numbers, test=numbers)
    data = TaskData.load(DataOptions(**files, label_column="ner_tags"))
    with pytest.raises(
        ValueError, match=r"the tags of few are numbers, .*: write their names in 'ner_tags', such as 'B-P"
    ):
        make_task(folder, data.labels).check("few", data.train)
    names = [[TAGS[tag] for tag in tags] for tags in GIVEN]
    files = save_sets(tmp_path, train=Dataset.from_dict({"tokens": SENTENCES, "ner_tags": names}))
    data = TaskData.load(DataOptions(files["train"], files["train"], label_column="ner_tags"))
    assert data.labels == sorted(TAGS)
    assert [[data.labels[tag] for tag in tags] for tags in data.train["ner_tags"]] == names
    make_task(folder, data.labels).check("few", data.train)


def test_all_sets_have_one_label_space(tmp_path):
    other = ["O", "B-PERSON", "I-PER", "B-LOC"]
    files = save_sets(tmp_path, train=make_data(), test=make_data(tags=other))
    with pytest.raises(ValueError, match="say so with label_aliases OTHER=LABEL"):
        TaskData.load(DataOptions(**files, label_column="ner_tags"))
    data = TaskData.load(DataOptions(**files, label_column="ner_tags", label_aliases=["B-PERSON=B-PER"]))
    assert data.labels == TAGS
    files |= save_sets(tmp_path, test=Dataset.from_dict({"tokens": [["a"]], "ner_tags": [[4]]}))
    with pytest.raises(ValueError, match=r"has the labels \[4\], outside 0 … 3"):
        TaskData.load(DataOptions(**files, label_column="ner_tags"))


def test_validation_data_are_drawn_from_the_training_data(tmp_path):
    files = save_sets(tmp_path, train=make_data(SENTENCES * 4, GIVEN * 4), test=make_data())
    data = TaskData.load(DataOptions(**files, validation_fraction=0.25, label_column="ner_tags"))
    assert (len(data.train), len(data.validation)) == (6, 2)


@pytest.mark.slow
def test_a_comparison_from_its_config(tmp_path):
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: index for index, tag in enumerate(TAGS)}}
    save_bert(tmp_path / "model", words=WORDS)
    BertForTokenClassification(tiny_bert_config(vocab_size=len(WORDS), **names)).save_pretrained(tmp_path / "model")
    save_sets(tmp_path, **{name: make_data(SENTENCES * 4, GIVEN * 4) for name in ("train", "test", "ood", "retained")})
    save_sets(tmp_path, validation=make_data())
    content = task_config(
        tmp_path,
        task="token-classification",
        label_column="ner_tags",
        methods={"plain": {}, "ftp": {}, "l2-sp": {"alpha": 0.1}},
        corruptions={"kinds": ["keyboard_typos"], "severities": [2]},
        rules=["retained/retained:f1 >= pretrained - 0.5"],
    )
    results = compare_whole_and_interrupted(content, tmp_path)
    assert results.metric == "f1"
    assert {result.data for result in results.pretrained} >= {"test", "ood", "retained"}, "its head is the model's own"
    for run in results.runs:
        measured = {(result.kind, result.data): result.metrics for result in run.summary.results}
        assert {"f1", "precision", "recall", "token_accuracy", "kl"} <= measured["ood", "ood"].keys()
        assert "kl" not in measured["corrupted", "keyboard_typos/2"]


def test_a_config_without_a_kind_of_corruption_that_fits_is_refused(tmp_path):
    content = task_config(tmp_path, task="token-classification", corruptions={"kinds": ["word_swap"]})
    with pytest.raises(ValueError, match=r"corruptions: kinds must be 'all' or a list of character_deletion"):
        ComparisonConfig.load(write_config(tmp_path, content))
