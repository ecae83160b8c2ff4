"""The snippets of cards, run on tiny models in the place of those that they name."""

import pytest

from ftp_hf.cards.usage import usage
from ftp_hf.runs.summary import RunSummary
from tests.support.tiny_language import make_pairs, save_llama


def run(task, folder):
    snippet = usage(RunSummary("ours", "ftp", task=task), str(folder))
    exec(compile(snippet, task, "exec"), {})  # noqa: S102


def test_similarity_of_sentences(tmp_path, capsys):
    pytest.importorskip("sentence_transformers")
    run("sentence-similarity", make_pairs(tmp_path) / "model")
    assert capsys.readouterr().out.count("[") == 4, "a matrix of three rows"


def test_generated_text(tmp_path, capsys):
    run("text-generation", save_llama(tmp_path))
    assert "'generated_text'" in capsys.readouterr().out
