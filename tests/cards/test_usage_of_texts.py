"""The snippets of cards run as they are written."""

import pytest
import torch
from transformers import BertForTokenClassification, MobileNetV2ForSemanticSegmentation

from ftp_hf.cards.usage import usage
from ftp_hf.runs.summary import RunSummary
from ftp_hf.trainer.model_task import task_of
from tests.support.models import save_bert, save_mobilenet, tiny_bert_config
from tests.support.tiny_language import make_pairs, save_llama


def save_tagger(folder):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ada", "london", "."]
    save_bert(folder, words=words)
    torch.manual_seed(0)
    tags = {0: "B-PER", 1: "B-LOC"}
    BertForTokenClassification(tiny_bert_config(vocab_size=len(words), id2label=tags)).save_pretrained(folder)
    return BertForTokenClassification


def save_segmenter(folder):
    save_mobilenet(folder, model_class=MobileNetV2ForSemanticSegmentation, id2label={0: "sky", 1: "road"})
    return MobileNetV2ForSemanticSegmentation


def run(task, folder):
    snippet = usage(RunSummary("ours", "ftp", task=task), str(folder))
    exec(compile(snippet, task, "exec"), {})  # noqa: S102


@pytest.mark.parametrize(("save", "found"), [(save_tagger, "'entity': 'B-"), (save_segmenter, "'mask': <PIL.Image")])
def test_the_snippet_of_a_task_runs(save, found, tmp_path, capsys):
    run(task_of(save(tmp_path)), tmp_path)
    assert found in capsys.readouterr().out


def test_similarity_of_sentences(tmp_path, capsys):
    pytest.importorskip("sentence_transformers")
    run("sentence-similarity", make_pairs(tmp_path) / "model")
    assert capsys.readouterr().out.count("[") == 4, "a matrix of three rows"


def test_generated_text(tmp_path, capsys):
    run("text-generation", save_llama(tmp_path))
    assert "'generated_text'" in capsys.readouterr().out
