"""Every snippet and command of the README and the pages, as written: run here, or with the reason why it is not."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from datasets import Dataset
from PIL import Image
from transformers import BertForMaskedLM, ViTImageProcessor, ViTModel

from ftp_hf import cli
from tests.support.models import save_bert, tiny_bert_config, tiny_vit_config
from tests.support.pages import PAGES, ROOT, blocks, commands
from tests.support.speech import WORDS as SPOKEN
from tests.support.speech import save_whisper, sound
from tests.support.tiny_data import WORDS
from tests.support.tiny_language import NUMBERS, save_llama

ELSEWHERE = {
    "tasks.md": "tests/tasks/test_own_task.py",
    "quickstart.md": "below, with what they print",
}
"""Whose snippets have a test of their own."""

NOT_RUN = {
    r"git clone": "the repository has no address yet",
    r"cd ": "after git clone",
    r"pip install ": "what .ci/run begins with",
    r"make demo": "minutes; tests/examples/test_examples.py and test_speech.py run what it calls",
    r"make (test|test-slow|test-all|bench|docs|pages|lint|help)": "this, or what .ci/run calls",
    r"(\.venv/bin/)?ftp-hf compare examples/": "minutes; tests/compare/run/test_config.py loads every config of examples/",
    r"ftp-hf compare (reviews|requests).yaml": "minutes; tests/compare/run/ runs comparisons, and this config is checked below",
    r"bash reviews.sh": "it needs SLURM; tests/compare/run/test_share.py runs one with a stand-in",
    r"ftp-hf (push|history|rollback)": "they need a Hub; tests/hub/test_cli.py has one",
    r"ftp-hf check runs/compare": "after a comparison; tests/compare/run/test_handover.py checks one",
    r"(for|rate=|echo|MINILM=|done)": "the shell's",
    r"python examples/(text|image)_classification.py": "minutes; tests/examples/test_examples.py runs both",
    r"python examples/compare_runs.py": "after them, likewise",
    r"(\.venv/bin/)?python examples/digits/data.py": "likewise",
    r"(torchrun|accelerate launch) ": "launches; tests/examples/test_processes.py does",
    r"python split.py": "its lines are run as a snippet",
    r"mkdir -p": "of the shell, for the file of the next line",
}
"""By the words that a command begins with, why it is not run."""

RUN = (
    "ftp-hf check runs/guarded",
    "ftp-hf compare --init text-classification",
    "ftp-hf compare --dry-run reviews.yaml",
    "ftp-hf compare --estimate",
    "ftp-hf completion",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with tiny models under the names of the snippets, and with the files that they read."""
    folder = tmp_path_factory.mktemp("reader")
    minilm = save_bert(folder / "sentence-transformers" / "all-MiniLM-L6-v2", words=WORDS)
    BertForMaskedLM(tiny_bert_config(vocab_size=len(WORDS))).bert.save_pretrained(minilm)
    vit = folder / "google" / "vit-base-patch16-224-in21k"
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(vit)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(vit)
    save_whisper(folder / "openai" / "whisper-tiny.en")
    save_llama(folder / "HuggingFaceTB" / "SmolLM2-135M-Instruct")
    texts = [f"the film is {word}" for word in ("good", "bad", "fine", "poor")] * 4
    rows = Dataset.from_dict({"text": texts, "label": [0, 1] * 8})
    for name in ("train", "validation", "test", "shifted"):
        # Files of the same contents are refused.
        rows.add_column("file", [name] * len(rows)).to_csv(folder / f"{name}.csv")
    intents = ["praise", "blame"] * 8
    Dataset.from_dict({"text": texts, "intent": intents}).to_csv(folder / "requests.csv")
    (folder / "stanfordnlp" / "sst2").mkdir(parents=True)
    rows.rename_column("text", "sentence").to_parquet(folder / "stanfordnlp" / "sst2" / "train.parquet")
    for split in ("train", "test"):
        for number, kind in enumerate(("cat", "dog")):
            (folder / "photos" / split / kind).mkdir(parents=True)
            for shade in range(4):
                picture = Image.new("RGB", (32, 32), (60 * shade, 100 * number, 90))
                picture.save(folder / "photos" / split / kind / f"{shade}.png")
        heard = [{"audio": sound(pitch), "text": word} for word, pitch in SPOKEN.items()]
        Dataset.from_list(heard * 4).to_parquet(folder / f"{split}.parquet")
    answers = {"prompt": [f"{word} and" for word in NUMBERS], "completion": [f" {word}" for word in NUMBERS]}
    for name in ("answers", "shifted"):
        Dataset.from_dict(answers).to_json(folder / f"{name}.jsonl")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def run(text):
    """As a script: in a module, which what it saves can name."""
    sys.modules["snippet"] = module = ModuleType("snippet")
    exec(text, vars(module))  # noqa: S102 - that is what a reader does
    return module


def snippets(language):
    return [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in ELSEWHERE
        for number, text in enumerate(blocks(page, language))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("text", snippets("python"))
@pytest.mark.usefixtures("here")
def test_it_runs_as_written(text):
    run(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "figure"),
    list(
        zip(
            blocks(ROOT / "docs" / "quickstart.md", "python"),
            ("eval_accuracy", "eval_accuracy", "eval_wer", "eval_loss"),
            strict=True,
        )
    ),
)
@pytest.mark.usefixtures("here")
def test_each_script_to_begin_with_prints_what_it_came_to(text, figure, capsys):
    run(text)
    assert figure in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("sign", "-+")
@pytest.mark.usefixtures("here")
def test_the_script_runs_before_and_after_the_change(sign):
    (change,) = blocks(ROOT / "README.md", "diff")
    lines = [line[1:] for line in change.splitlines() if line[:1] in (" ", sign, "")]
    assert type(run("\n".join(lines)).trainer).__name__ == {"-": "Trainer", "+": "FTPTrainer"}[sign]


def test_snippets_compile():
    for page in PAGES:
        for text in blocks(page, "python"):
            compile(text, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_or_has_a_reason(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page):
        command = " ".join(words)
        reason = [why for start, why in NOT_RUN.items() if re.match(start, command)]
        assert command.startswith(RUN) or reason, command
        if words[0].endswith("ftp-hf"):
            parser = cli.make_parser(words[1:])
            for action in (action for command in parser.commands.values() for action in command._actions):
                action.type = None  # no file is read
            parser.parse_args(words[1:])
        if words[0] == "make":
            assert words[1] in targets
        for word in words:
            if word.startswith(("examples/", "docs/", "benchmarks/")):
                assert (ROOT / word).is_file(), command


def test_every_reason_is_needed():
    everything = [" ".join(words) for page in PAGES for words in commands(page)]
    assert [start for start in NOT_RUN if not any(re.match(start, command) for command in everything)] == []
    assert [start for start in RUN if not any(command.startswith(start) for command in everything)] == []


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_first_config_is_written_and_can_be_rehearsed(capsys):
    assert cli.main(["compare", "--init", "text-classification", "reviews.yaml"]) == 0
    content = yaml.safe_load(Path("reviews.yaml").read_text())
    content |= {"model": "sentence-transformers/all-MiniLM-L6-v2", "train": "train.csv", "test": "test.csv"}
    content |= {"ood": ["shifted.csv"], "validation_fraction": 0.5}
    Path("reviews.yaml").write_text(yaml.safe_dump(content))
    capsys.readouterr()
    assert cli.main(["compare", "--dry-run", "reviews.yaml"]) == 0
    assert "runs to train" in capsys.readouterr().err
    assert cli.main(["compare", "--estimate", "reviews.yaml"]) == 0
    assert "It would take at most about" in capsys.readouterr().err
    assert cli.main(["compare", "--init", "text-classification", "reviews.yaml"]) == 1, "it is there"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_csv_of_ones_own_can_be_compared(capsys):
    page = ROOT / "docs" / "own_csv.md"
    for text in blocks(page, "python"):
        run(text)
    assert cli.main(["compare", "--init", "text-classification", "requests.yaml"]) == 0
    content = yaml.safe_load(Path("requests.yaml").read_text()) | yaml.safe_load(blocks(page, "yaml")[0])
    Path("requests.yaml").write_text(yaml.safe_dump({**content, "methods": ["plain"]}))
    assert cli.main(["compare", "--dry-run", "requests.yaml"]) == 0
    assert "5 runs to train" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_guards_run_is_checked(capsys):
    page = ROOT / "docs" / "guard.md"
    torch.manual_seed(0)  # of the new head
    run(
        blocks(page, "python")[0].replace("learning_rate=1e-4", "learning_rate=1e-2, num_train_epochs=40")
    )  # a tiny model
    assert Path("runs/guarded/model.safetensors").is_file(), "what is pushed"
    Path("rules.yaml").write_text(blocks(page, "yaml")[0])
    (words,) = commands(page)
    assert cli.main(words[1:]) == 0
    assert "ood/shifted >= 0.60" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_what_there_is(shell, capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "--dry-run" in script or "dry-run" in script
    assert "rollback" in script
