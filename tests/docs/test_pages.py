"""What the pages say of the package is what it has, and what they are made of is what they show."""

import dataclasses
import importlib
import json
import re

import generate
import pytest
import yaml

from ftp_hf import FTPArguments
from ftp_hf.cli import make_parser
from ftp_hf.compare import ComparisonConfig, ComparisonResults
from ftp_hf.compare.evidence.verdict import verdicts
from ftp_hf.optim.options import ProjectionOptions
from tests.support.pages import PAGES, ROOT, blocks

REFERENCE = ROOT / "docs" / "reference"


def test_the_readme_is_one_screen():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.encode()) <= 8192


def test_every_option_of_the_command_is_on_its_page():
    page = (ROOT / "docs" / "command.md").read_text()
    assert generate.between(page, "options", generate.command_options()) == page, "make pages"
    for name, parser in make_parser(()).commands.items():
        section = page.partition(f"## ftp-hf {name}\n")[2].partition("\n## ")[0]
        for option in parser._option_string_actions:
            assert option in ("-h", "--help") or f"`{option}" in section, (name, option)


@pytest.mark.parametrize("package", generate.PACKAGES)
def test_every_public_name_is_in_the_reference(package):
    page = (REFERENCE / f"{package}.md").read_text()
    for name in importlib.import_module(package).__all__:
        assert f"| `{name}` |" in page, "make pages"


def test_every_option_of_the_projection_is_on_the_page_of_the_optimizers():
    page = (ROOT / "docs" / "optimizers.md").read_text()
    options = [option.name for option in dataclasses.fields(FTPArguments)] + list(ProjectionOptions.__annotations__)
    assert "ftp_kappa" in options
    assert "kappa" in options
    assert [name for name in options if f"`{name}`" not in page] == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (*PAGES, *REFERENCE.glob("*.md")):
        assert re.search(rf"[ /]{re.escape(page.name)}$", navigation, re.MULTILINE), (
            f"{page.name}: add it to mkdocs.yml"
        )


def test_every_set_that_the_examples_read_is_on_the_page_of_the_data():
    page = (ROOT / "docs" / "data.md").read_text()
    files = [path for path in (ROOT / "examples").rglob("*") if path.suffix in (".py", ".yaml")]
    folders = {name for path in files for name in re.findall(r"shared/data/(\w+/[\w.]+)", path.read_text())}
    assert "text/gsm8k" in folders
    assert sorted(folder for folder in folders if f"`{folder}`" not in page) == []


def test_every_extra_is_on_the_page_of_the_installation():
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = re.findall(r"^(\w+) = \[", project, re.MULTILINE)
    assert "compare" in extras
    page = (ROOT / "docs" / "install.md").read_text()
    assert [name for name in extras if f"`.[{name}]`" not in page] == []


def test_the_lowest_versions_are_on_the_page_of_the_installation():
    project = (ROOT / "pyproject.toml").read_text()
    page = (ROOT / "docs" / "install.md").read_text()
    python = re.findall(r'^requires-python = ">=([\d.]+)"', project, re.MULTILINE)
    lowest = [("Python", *python), *re.findall(r'^    "(torch|transformers)>=([\d.]+)"', project, re.MULTILINE)]
    assert [name for name, _ in lowest] == ["Python", "torch", "transformers"]
    assert [pair for pair in lowest if " ".join(pair) not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("name", ["results.md", "performance.md", "distributed.md"])
def test_a_table_of_figures_is_made_of_a_file_or_says_that_there_is_none(name):
    text = re.sub(r"<!-- generated: .*?<!-- end of ", "", (ROOT / "docs" / name).read_text(), flags=re.DOTALL)
    for section in text.split("\n## "):
        if re.search(r"^\|.*\d\.\d", section, re.MULTILINE):
            assert "No file in the repository holds" in section, section.splitlines()[0]


def test_what_is_said_of_single_runs_is_in_their_cards():
    said = (ROOT / "docs" / "results.md").read_text().partition("## Models that can")[2].partition("\n## ")[0]
    cards = (ROOT / "model_cards" / "README.md").read_text()
    figures = {
        "spoken-digits-whisper-ftp": ["6.5", "13.6", "20.2"],
        "gsm8k-smollm2-ftp": ["1.152"],
        "camvid-mobilenet-ftp": ["21.4"],
        "sts-regression-minilm-ftp": ["1.319"],
    }
    for card, expected in figures.items():
        row = next(line for line in cards.splitlines() if line.startswith(f"| [{card}]"))
        assert [figure for figure in expected if figure not in said or figure not in row] == []


@pytest.mark.slow
def test_what_is_said_of_a_study_is_in_its_results():
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    said = {
        ("digits", "ftp"): ["+12.4 points OOD [+9.2, +15.5]", "+1.2 ID [+0.4, +2.0]"],
        ("digits", "lora+ftp"): ["LoRA + FTP's +1.5 is"],
        ("sst2_lora", "lora+factors"): ["−2.7 points [−4.8, −0.6]"],
    }
    for (study, method), parts in said.items():
        results = ComparisonResults.load(ROOT / "model_cards" / "comparisons" / study)
        known = {verdict.method: verdict for verdict in verdicts(results)}[method].sentence.replace(
            "\N{NO-BREAK SPACE}", " "
        )
        for part in parts:
            assert part in page
            for figure in re.findall(r"[+−]\d+\.\d", part):
                assert figure.lstrip("+−") in known, (study, method, figure)


@pytest.mark.slow
def test_the_pages_are_those_of_the_package():
    written = generate.pages()
    stale = [path for path, text in written.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "make pages"
    assert {path.name for path in REFERENCE.iterdir()} == {f"{name}.md" for name in generate.PACKAGES}


@pytest.mark.slow
def test_the_schema_takes_every_config_here_and_no_misspelt_one(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    checked = jsonschema.Draft7Validator(json.loads((ROOT / generate.SCHEMA).read_text()))
    configs = [yaml.safe_load(path.read_text()) for path in (ROOT / "examples" / "compare").glob("*.yaml")]
    (tmp_path / "of_the_page.yaml").write_text(blocks(ROOT / "docs" / "config.md", "yaml")[0])
    ComparisonConfig.load(tmp_path / "of_the_page.yaml")
    configs.append(yaml.safe_load((tmp_path / "of_the_page.yaml").read_text()))
    for config in configs:
        assert [error.message for error in checked.iter_errors(config)] == []
        assert list(checked.iter_errors({**config, "metod": ["plain"]}))
        assert list(checked.iter_errors({**config, "seeds": "three"}))
    assert list(checked.iter_errors({**configs[0], "methods": {"ftp": {"kapa": 1}}}))
    assert not list(checked.iter_errors({**configs[0], "task": "my_tasks:Cloze", "text_column": "text", "of_mine": 1}))
