"""The task of docs/tasks.md, as written there, in a folder outside the package."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from transformers import BertForMaskedLM

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.evidence.measures import pretrained_figure
from ftp_hf.tasks import Task, task_class
from tests.support.models import save_bert, tiny_bert_config
from tests.support.task_comparisons import save_sets
from tests.support.tiny_data import WORDS

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def block(language, containing):
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(text for text in found if containing in text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of the page, with a tiny model and texts for it, as the working directory."""
    save_bert(tmp_path / "model", words=WORDS)
    torch.manual_seed(0)
    BertForMaskedLM(tiny_bert_config(vocab_size=len(WORDS))).save_pretrained(tmp_path / "model")
    for name, subject in [
        ("train", "film"),
        ("validation", "film"),
        ("test", "film"),
        ("songs", "song"),
        ("retained", "the"),
    ]:
        texts = [f"the {subject} is {word} the {subject} is {word}" for word in WORDS[5:]] * 2
        save_sets(tmp_path, **{name: Dataset.from_dict({"text": texts})})
    (tmp_path / "my_tasks.py").write_text(block("python", "class Cloze"))
    config = yaml.safe_load(block("yaml", "methods: [plain, ftp, l2-sp]"))
    config |= {"model": "model"}
    config["training"] |= {"use_cpu": True, "max_steps": 2}
    (tmp_path / "cloze.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_a_task_of_sixty_lines():
    lines = [line for line in block("python", "class Cloze").splitlines() if line.strip()]
    assert len(lines) <= 60


def test_it_is_found_by_name_and_as_a_class(folder):
    kind = task_class("my_tasks:Cloze")
    assert issubclass(kind, Task)
    for config in (
        ComparisonConfig.load(folder / "cloze.yaml"),
        ComparisonConfig.load(folder / "cloze.yaml", task=kind),
    ):
        assert (config.task, config.task_class, config.metric) == ("my_tasks:Cloze", kind, "surprise")
        assert config.reading.max_length == 128
    (folder / "cloze.yaml").write_text((folder / "cloze.yaml").read_text() + "max_lenght: 3\n")
    with pytest.raises(ValueError, match="did you mean 'max_length'"):
        ComparisonConfig.load(folder / "cloze.yaml")


@pytest.mark.slow
def test_it_is_compared(folder):
    results = compare(ComparisonConfig.load(folder / "cloze.yaml"), folder / "out")
    assert pretrained_figure(results, "retained/plain") is not None
    for run in (run for method in results.methods for run in results.chosen_runs(method.name)):
        measured = {(result.kind, result.data): set(result.metrics) for result in run.summary.results}
        assert measured == {
            ("validation", "validation"): {"loss", "surprise"},
            ("id", "test"): {"loss", "surprise", "kl"},
            ("ood", "songs"): {"loss", "surprise", "kl"},
            ("retained", "plain"): {"loss", "surprise", "kl"},
        }
        before = run.summary.pretrained
        assert before is not None
        assert before.results == results.pretrained
    report = (folder / "out" / "report.html").read_text()
    assert "What the model could do before" in report
    assert "plain (surprise in %, less is better)" in report


def test_it_may_have_no_options(folder):
    (folder / "bare_tasks.py").write_text(
        "from ftp_hf.tasks import Task\nfrom my_tasks import Cloze\n"
        "class Bare(Cloze):\n    options_class = Task.options_class\n"
    )
    text = (folder / "cloze.yaml").read_text()
    (folder / "bare.yaml").write_text(text.replace("my_tasks:Cloze", "bare_tasks:Bare"))
    assert ComparisonConfig.load(folder / "bare.yaml").task_class.__name__ == "Bare"
