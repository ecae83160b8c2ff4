import dataclasses
import itertools
import json
import math
import os
import re
import statistics
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ftp_hf.cli import main
from ftp_hf.common.figures import metric_named
from ftp_hf.compare import ComparisonResults, headline
from ftp_hf.compare.evidence.differences import against_plain, cost, matched_difference, relative_to_plain
from ftp_hf.compare.evidence.verdict import verdicts
from ftp_hf.compare.report.charts import drawn
from ftp_hf.compare.report.labels import place
from ftp_hf.compare.report.radii import draw_radius_map, radius_grid
from ftp_hf.compare.report.scatter import draw_scatter
from ftp_hf.compare.report.style import bare, deviation, draw_chance, new_figure
from ftp_hf.compare.report.tables import (
    Strong,
    drift_table,
    matched_table,
    means_table,
    paired_table,
    rules_table,
    sweep_table,
)
from ftp_hf.compare.report.write import escape_markdown, report_texts, write_report
from tests.support.comparisons import GAIN, LOSS, PLAIN, TIE, comparison, with_epochs

EVERYTHING = {
    "plain": PLAIN,
    "linear-probe": LOSS,
    "wise-ft": [(0.86, 0.63), (0.87, 0.65), (0.88, 0.64)],
    "tpgm": TIE,
    "ftp": GAIN,
}
CARDS = Path(__file__).parents[3] / "model_cards"
PUBLISHED = sorted(CARDS.glob("comparisons/*/results.json"))
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The texts, tables and references of a page whose elements must be closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.tables, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        named = [value for name, value in attributes if name in ("src", "href", "action", "data")]
        self.references += [value for value in named if not value.startswith("#")]
        assert tag not in ("link", "iframe")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open:
            self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def texts(results):
    """Both forms, without the charts."""
    return report_texts(results, {}).values()


def write(results, folder):
    files = write_report(results, folder)
    return (folder / "report.html").read_text(), (folder / "report.md").read_text(), files


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    results = comparison(EVERYTHING)
    return results, *write(results, tmp_path_factory.mktemp("report"))


def test_all_files_are_there(everything):
    _, _, markdown, files = everything
    names = [file.name for file in files]
    assert names == [
        "report.html", "report.md", "scatter.png", "relative.png", "severity.png", "corruptions.png", "time.png",
        "memory.png", "radii-ftp.png",
    ]  # fmt: skip
    assert re.findall(r"\]\(charts/(.+?)\)", markdown) == names[2:]
    for file in files[2:]:
        with Image.open(file) as image:
            assert image.format == "PNG"
            assert 800 < image.width < 1000
            assert len(set(image.convert("L").tobytes())) > 10


def test_the_page_is_whole_and_needs_nothing_else(everything):
    _, html, _, files = everything
    page = Page(html)
    assert len(page.references) == len(files) - 2
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert "http" not in re.sub(r"base64,[^\"]+", "", html)
    assert "url(" not in html
    assert "width=device-width" in html


def test_both_forms_have_the_same_tables(everything):
    _, html, markdown, _ = everything
    lines = re.sub(r"\n(?!\|)", "\n\n", markdown)
    in_markdown = [
        [
            [cell.strip().strip("*").replace("\\", "") for cell in row.strip("|").split("|")]
            for row in table.splitlines()
        ]
        for table in re.findall(r"(?:^\|.*\n)+", lines, re.MULTILINE)
    ]
    in_html = Page(html).tables
    assert [[row for number, row in enumerate(table) if number != 1] for table in in_markdown] == in_html
    assert len(in_html) == 9


def mean_of_names(run, kind, prefix):
    return statistics.fmean(v for name, v in run.values(kind, "accuracy").items() if name.startswith(prefix))


def figures(results):
    """Every figure that can be had from the results, as it is printed."""
    found = set()
    kinds = ("id", "ood", "corrupted", "validation")
    for method in results.methods:
        runs = results.chosen_runs(method.name)
        groups = [[run.value(kind, "accuracy") for run in runs] for kind in kinds]
        for kind in kinds:
            names = list(runs[0].values(kind, "accuracy"))
            prefixes = {name.partition("/")[0] + "/" * (kind == "corrupted") for name in names}
            groups += [[mean_of_names(run, kind, prefix) for run in runs] for prefix in prefixes]
        for values in groups:
            found |= {f"{100 * number:.1f}" for number in (statistics.fmean(values), statistics.stdev(values))}
        differences = [against_plain(results, method.name, kind) for kind in kinds]
        for known in [*differences, matched_difference(results, method.name)]:
            ends = [known.mean, *([known.low, known.high] if known.is_known else [])] if known else []
            found |= {f"{abs(100 * number):.1f}" for number in ends}
        found |= {f"{abs(relative_to_plain(results, method.name, kind)):.1f}" for kind in kinds}
        for run in [run for run in results.runs if run.method == method.name and run.seed == 0]:
            found |= {f"{100 * run.value('validation', 'accuracy'):.1f}", *(f"{v:g}" for v in run.setting.values())}
        found |= {f"{1000 * cost(results, method.name, 'seconds_per_step').mean:.3g}"}
        found |= {f"{cost(results, method.name, 'seconds_per_step').mean:.3g}"}
        found |= {f"{cost(results, method.name, 'peak_memory_bytes').mean / 2**30:.2f}"}
        found |= {f"{(cost(results, method.name, 'peak_memory_bytes').ratio or 1) * 100 - 100:.0f}"}
        found |= {f"{abs((cost(results, method.name, 'seconds_per_step').ratio or 1) * 100 - 100):.0f}"}
        for run in runs:
            found |= {f"{run.optimizer_bytes / 2**20:.1f}", f"{run.trainable_parameters:,}"}
            found |= {f"{value:.3g}" for value in dataclasses.astuple(run.drift)[:5]}
            found |= {f"{value:.3g}" for p in run.drift.parameters for value in (p.relative, p.row_norm)}
            found |= {f"{data.size:,}" for data in run.summary.data}
        found.add(f"{statistics.fmean(run.drift.relative for run in runs):.3g}")
    return found | {"60", "3", "5", "0", "1", "2"}  # seconds of training, seeds, alphas


def test_every_number_of_the_tables_is_in_the_results(everything):
    results, html, _, _ = everything
    known = figures(results)
    cells = [
        cell for table in Page(html).tables for row in table[1:] for cell in row[1:] if not re.match("[a-z]", cell)
    ]
    shown = {number for cell in cells for number in re.findall(r"\d[\d,.]*\d|\d", plain(cell))}
    assert len(shown) > 60
    assert shown <= known


def test_means_and_differences_by_hand():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    assert [[plain(cell) for cell in row] for row in means_table(results).rows] == [
        ["Plain fine-tuning", "91.0 ± 1.0", "61.0 ± 1.0", "86.5 ± 1.0", "92.0 ± 1.0", "3"],
        ["FTP", "91.0 ± 0.9", "63.0 ± 1.1", "86.5 ± 0.9", "92.0 ± 0.9", "3"],
    ]
    (row,) = paired_table(results).rows
    assert [plain(cell) for cell in row] == [
        "FTP", "0.0 [-0.2, +0.2]", "+2.0 [+1.8, +2.2]", "0.0 [-0.2, +0.2]", "+0.0", "+3.3", "+0.0", "3",
    ]  # fmt: skip
    assert [isinstance(cell, Strong) for cell in row] == [False, False, True, False, False, False, False, False]


def test_a_small_learning_rate_is_a_method_like_any():
    results = comparison({"plain": PLAIN, "small-lr": GAIN, "ftp": TIE})
    for run in results.chosen_runs("small-lr"):
        run.folder = f"runs/plain-seed{run.seed}"
    assert "Small learning rate (+2.0 points [+1.8, +2.2]) is above plain fine-tuning" in plain(headline(results))
    assert [row[0] for row in means_table(results).rows] == ["Plain fine-tuning", "Small learning rate", "FTP"]
    assert ["Small learning rate", "learning_rate 0.001", "91.1"] in sweep_table(results).rows
    _, markdown = texts(results)
    assert "Recommended is Small learning rate, learning_rate 0.001, seed 2, in runs/plain-seed2" in markdown
    assert (
        "The null hypothesis, a small learning rate does as well (arXiv 2509.20758), was tested with 0.001" in markdown
    )
    _, markdown = texts(comparison({"plain": PLAIN, "ftp": TIE}))
    assert "not tried at learning rates below 0.0001, so that the null hypothesis" in markdown


def test_rules_are_counted_over_seeds():
    results = comparison(
        {"plain": PLAIN, "ftp": GAIN, "spd": []}, rules=["id/test >= 0.905", "ood_mean > 0.6", "ood_worst >= 0.51"]
    )
    # ID 0.90, 0.91, 0.92 and 0.901, 0.91, 0.919; OOD 0.60, 0.62, 0.61 and 0.619, 0.64, 0.631, the worst set 0.1 below.
    assert rules_table(results).rows == [
        ["Plain fine-tuning", "2 of 3", "2 of 3", "2 of 3", "2 of 3"],
        ["FTP", "2 of 3", Strong("3 of 3"), Strong("3 of 3"), "2 of 3"],
        ["SPD", "", "", "", ""],
    ]
    assert isinstance(rules_table(results).rows[1][2], Strong)
    assert not isinstance(rules_table(results).rows[1][1], Strong)
    for text in texts(results):
        assert "The command ftp-hf check holds" in text, "marks of code would be shown as such"


def test_of_a_rule_that_cannot_be_checked_it_is_said_why():
    why = "cannot be checked: the model has no f1 on id/test, only accuracy"
    found = rules_table(comparison(rules=["id/test:f1 >= 0.5", "ood_mean > 0.6"]))
    assert found.rows[1] == ["FTP", why, "3 of 3", "0 of 3"]


def test_a_rule_that_is_broken_by_models_that_diverged_is_broken():
    lost = comparison({"plain": PLAIN, "ftp": [(math.nan, math.nan)] * 3}, rules=["id/test >= 0.5"])
    assert rules_table(lost).rows[1] == ["FTP", "0 of 3", "0 of 3"]


def test_what_is_not_on_the_curve_is_said():
    figures = {**EVERYTHING, "l2-sp": [(0.88, 0.625), (0.95, 0.7), (0.90, 0.62)], "spd": [(0.95, 0.7)] * 3}
    rows = {row[0]: [plain(cell) for cell in row[1:]] for row in matched_table(comparison(figures)).rows}
    assert rows["L2-SP"] == ["+0.2", "2 of 3"]
    assert rows["SPD"] == ["not defined", "0 of 3"]
    assert rows.keys().isdisjoint({"WiSE-FT", "Plain fine-tuning"})


def test_the_sweep_shows_what_was_tried_chosen_and_is_to_come():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    results.method("plain").chosen = {"learning_rate": 1e-2}
    results.method("ftp").sweep["learning_rate"].append(1e-1)
    rows = sweep_table(results).rows
    assert [tuple(row) for row in rows] == [
        ("Plain fine-tuning", "learning_rate 0.0001", "81.0"),
        ("Plain fine-tuning", "learning_rate 0.001", "91.0"),
        ("Plain fine-tuning", "learning_rate 0.01", "81.0"),
        ("FTP", "learning_rate 0.0001", "81.1"),
        ("FTP", "learning_rate 0.001", "91.1"),
        ("FTP", "learning_rate 0.01", "81.1"),
        ("FTP", "learning_rate 0.1", "not run yet"),
    ]
    assert [isinstance(row[0], Strong) for row in rows] == [False, False, True, False, True, False, False]
    _, markdown = texts(results)
    assert (
        "edge of what was tried, so that more may be possible beyond it: Plain fine-tuning (learning_rate 0.01)."
        in markdown
    )


@pytest.mark.parametrize(
    ("chosen", "why"), [(1e-4, "the smallest rate of them"), (1e-2, "the first of them")], ids=["smallest", "first"]
)
def test_settings_that_tie_with_the_chosen_one_are_counted(chosen, why):
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    results.runs = [run for run in results.runs if run.method == "plain" or run.setting != {"learning_rate": 1e-3}]
    results.method("ftp").chosen = {"learning_rate": chosen}
    _, markdown = texts(results)
    assert f"Tied with others in ID validation, exactly: FTP with 1 other, {why}.\n" in markdown


@pytest.mark.parametrize(
    ("kept", "best", "said", "column"),
    [
        ([1, 3, 2], True, "after the epoch with the best ID validation", ["1", "1–3", "1"] * 2 + [""] * 3),
        ([20] * 3, True, "after the epoch with the best ID validation", None),
        ([20] * 3, False, "those of a run after its last epoch.", None),
    ],
    ids=["best", "best-is-last", "last"],
)
def test_it_is_said_which_epochs_weights_are_kept(kept, best, said, column):
    results = with_epochs(comparison({"plain": PLAIN, "ftp": GAIN, "wise-ft": GAIN}), kept, best=best)
    _, markdown = texts(results)
    assert "**Weights**" in markdown
    assert said in markdown
    table = sweep_table(results)
    assert [row[3] for row in table.rows if table.header[3:] == ["kept after epoch"]] == (column or [])


def test_what_records_do_not_say_of_kept_weights_is_not_said():
    _, markdown = texts(comparison({"plain": PLAIN, "ftp": GAIN}))
    assert "**Weights**" not in markdown
    assert "kept after" not in markdown


@pytest.mark.parametrize(
    ("results", "present", "absent"),
    [
        (comparison({"plain": PLAIN, "ftp": GAIN[:1], "spd": []}),
         ["Unfinished, seeds so far: FTP has 1 of 3, SPD has none of 3", "One seed: nothing can be concluded about FTP"],
         ["Plain fine-tuning has"]),
        (comparison({"plain": [], "ftp": []}, seeds=[0]), ["has none of 1"], ["What the evidence supports"]),
        (comparison({"ftp": GAIN, "l2-sp": PLAIN}), ["is not among the methods"], ["Beside plain fine-tuning"]),
        (comparison(ood=(), corruptions=()), ["No OOD sets were evaluated"], ["OOD mean", "Corrupted data"]),
        (comparison({"plain": PLAIN, "wise-ft": PLAIN}, ood=()), ["Corrupted data"], ["At the same ID"]),
        (comparison(ood=()), ["Corrupted data", "On corrupted data"], ["OOD mean"]),
        (comparison(corruptions=("fog",)), ["severity.png"], ["corruptions.png"]),
        (comparison({"plain": PLAIN[:1], "ftp": GAIN[:1]}), ["One seed: nothing can be concluded"], ["**+2.0"]),
        (comparison(metric="matthews_correlation"), ["0.91 ± 0.01"], ["points"]),
        (comparison({name: [(0.9, 0.6)] * 3 for name in ("plain", "ftp")}), ["3 seeds do not separate"], ["keeps ID within"]),
    ],
    ids=["killed", "nothing", "no-plain", "id-only", "curve-without-ood", "corruptions-only", "one-kind", "one-seed", "other-metric", "equal"],
)  # fmt: skip
@pytest.mark.slow
def test_reports_on_the_way(results, present, absent, tmp_path):
    html, markdown, _ = write(results, tmp_path)
    markdown, text = plain(markdown), plain(" ".join(Page(html).texts))
    for words in present:
        assert words in markdown
        assert words in text or words.endswith(".png")
    for words in absent:
        assert words not in markdown


def test_facts_that_are_missing_leave_their_sections_out(tmp_path):
    results = comparison({"plain": PLAIN, "l2-sp": GAIN}, command=None, config={})
    for run in results.runs:
        run.drift = run.trainable_parameters = run.optimizer_bytes = run.summary.hardware = None
    _, markdown, files = write(results, tmp_path)
    for title in ("Distance from", "moved most", "Time and memory", "Learned radii", "How to repeat it", "Machine"):
        assert title not in markdown
    assert not {"time.png", "memory.png"} & {file.name for file in files}


def test_names_are_shown_as_they_are(tmp_path):
    name = "a<b>|c & *d* ünï 数据 [x](http://y) $z$"
    results = comparison(name=name, ood=(name, "cartoon"), command=f"ftp-hf compare '{name}'")
    results.config = {"note": f"``` {name}"}
    results.method("ftp").title = name
    html, markdown, _ = write(results, tmp_path)
    page = Page(html)
    assert page.texts.count(name) >= 3
    assert "<b>|c" not in html
    assert not any(reference.startswith("http") for reference in page.references)
    row = next(line for line in markdown.splitlines() if "OOD a" in line and line.startswith("|"))
    assert row.startswith("| OOD a\\<b>\\|c & \\*d\\* ünï 数据 [x]\\(http://y) \\$z\\$ | ")
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert f"````\nnote: '``` {name}'\n````" in markdown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("learning_rate", "learning_rate"),
        ("_x_", "\\_x\\_"),
        ("3. x", "3\\. x"),
        ("91.0 ± 0.4", "91.0 ± 0.4"),
        ("+0.3 [−0.1, +0.7]", "+0.3 [−0.1, +0.7]"),
        ("# x", "\\# x"),
        ("- x", "\\- x"),
        ("&lt; R&D", "\\&lt; R&D"),
        ("a\nb", "a b"),
        ("a\\*", "a\\\\\\*"),
    ],
)
def test_markdown_escapes_marks_and_nothing_else(text, escaped):
    assert escape_markdown(text) == escaped


def test_paths_and_tokens_are_not_published():
    token = "hf_" + "s3cret" * 5
    results = comparison(
        config={"model": "/home/someone/vit", "token": token}, command=f"ftp-hf compare /home/someone/c.yaml {token}"
    )
    for text in texts(results):
        assert token not in text
        assert "/home" not in text
        assert "ftp-hf compare c.yaml" in text


@pytest.mark.slow
def test_the_same_results_make_the_same_report(tmp_path):
    results = comparison(EVERYTHING)
    results.save(tmp_path)
    first = {file: file.read_bytes() for file in write_report(results, tmp_path)}
    assert {file: file.read_bytes() for file in write_report(type(results).load(tmp_path), tmp_path)} == first
    # A picture that no longer is of the results goes.
    write_report(comparison(corruptions=()), tmp_path)
    assert not (tmp_path / "charts" / "severity.png").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_the_command_writes_a_report_again_from_its_results(tmp_path, capsys):
    results = comparison(EVERYTHING)
    write_report(results, tmp_path / "first")
    results.save(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out.split()
    for name in ("report.html", "report.md"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "results.json does not exist" in capsys.readouterr().err
    assert main(["report", str(CARDS / "digits-vit-ftp")]) == 1
    assert "results.json is not a comparison: unknown keys" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.parent.name)
def test_published_reports_are_what_their_results_say(file, tmp_path):
    results = ComparisonResults.load(file.parent)
    written = write_report(results, tmp_path)
    assert (tmp_path / "report.md").read_text() == file.with_name("report.md").read_text()
    charts = {chart.name for chart in written if chart.suffix == ".png"}
    assert charts == {chart.name for chart in file.parent.glob("charts/*.png")}


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.parent.name)
def test_the_index_of_cards_says_what_published_results_say(file):
    assert headline(ComparisonResults.load(file.parent)) in (CARDS / "README.md").read_text()


def test_other_data_are_refused_before_anything_is_written(tmp_path):
    results = comparison()
    results.chosen_runs("ftp")[0].summary.results.pop()
    with pytest.raises(ValueError, match="cannot be compared"):
        write_report(results, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("config", ["methods"], "\"['methods']\" is not an object"),
        ("seeds", {"0": 1}, "\"{'0': 1}\" is not a list"),
        ("metric", "acuracy", "metric must be one of accuracy, loss, got 'acuracy'"),
    ],
)
def test_results_that_were_edited_amiss_are_refused(tmp_path, key, value, message):
    results = comparison()
    results.metrics = [metric_named("accuracy"), metric_named("loss")]
    file = results.save(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(ValueError, match=re.escape(f"{file} is not a comparison: {message}")):
        ComparisonResults.load(tmp_path)


def test_results_that_were_cut_short_are_damaged_whatever_they_are_of(tmp_path, capsys):
    os.truncate(comparison().save(tmp_path), 300)
    assert main(["report", str(tmp_path)]) == 1
    assert f"{tmp_path / 'results.json'} is damaged: " in (said := capsys.readouterr().err)
    assert "again, a comparison or a stream" in said


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install"):
        write_report(comparison(), tmp_path)


def test_what_sets_a_method_apart_is_said():
    def text(*methods):
        return report_texts(comparison(dict.fromkeys(methods, PLAIN)), {})["report.md"]

    every = text("plain", "lp-ft", "tpgm", "ftp")
    assert "TPGM also learns its radii on the validation data" in every
    assert "LP-FT's training time excludes the linear probe" in every
    assert "what other methods keep of the pre-trained model is uncounted" in every
    few = text("plain", "ftp")
    assert not any(words in few for words in ("TPGM", "LP-FT", "is uncounted"))


def test_radius_grid():
    radii = {
        "bert.embeddings.word.weight": 1.0,
        "bert.layer.0.attention.output.dense.weight": 2.0,
        "bert.layer.0.output.dense.weight": 3.0,
        "bert.layer.1.attention.output.dense.weight": 4.0,
        "bert.layer.1.query.weight": 5.0,
    }
    layers, kinds, grid = radius_grid(radii)
    assert layers == ["embeddings", "0", "1"]
    assert kinds == ["word.weight", "attention.output.dense.weight", "output.dense.weight", "query.weight"]
    nan = np.nan
    expected = [[1, nan, nan], [nan, 2, 4], [nan, 3, nan], [nan, nan, 5]]
    np.testing.assert_array_equal(grid, expected)


def test_radius_grid_of_an_encoder_and_a_decoder():
    radii = {
        "model.encoder.conv1.weight": 1.0,
        "model.encoder.layers.0.fc1.weight": 2.0,
        "model.decoder.layers.0.fc1.weight": 3.0,
        "model.decoder.layers.1.fc1.weight": 4.0,
    }
    layers, kinds, grid = radius_grid(radii)
    assert layers == ["encoder", "encoder 0", "decoder 0", "decoder 1"]
    assert kinds == ["conv1.weight", "fc1.weight"]
    nan = np.nan
    np.testing.assert_array_equal(grid, [[1, nan, nan, nan], [nan, 2, 3, 4]])


def test_radius_grid_of_stages():
    radii = {
        f"swin.encoder.layers.{stage}.blocks.{block}.attention.{part}.weight": stage + block / 10
        for stage, blocks in enumerate((1, 2))
        for block in range(blocks)
        for part in ("q", "k")
    }
    layers, kinds, grid = radius_grid(radii | {"swin.encoder.layers.0.downsample.weight": 7.0})
    assert layers == ["0.0", "1.0", "1.1", "0"]
    assert kinds == ["q.weight", "k.weight", "downsample.weight"]
    nan = np.nan
    np.testing.assert_array_equal(grid, [[0, 1, 1.1, nan], [0, 1, 1.1, nan], [nan, nan, nan, 7]])


@pytest.mark.parametrize(
    ("radii", "labels"),
    [
        ({"a.weight": 0.11, "b.weight": 0.15}, ["0.11", "0.13", "0.15"]),
        ({"a.weight": 0.001, "b.weight": 0.1}, ["0.001", "0.01", "0.1"]),
        ({"a.weight": 1e-9, "b.weight": 0.1}, ["≤ 0.0001", "0.003", "0.1"]),
        ({"a.weight": 0.1}, ["0.1"]),
    ],
)
def test_the_colour_bar_tells_its_ticks_apart(radii, labels):
    bar = draw_radius_map(radii).axes[1]
    assert [label.get_text() for label in bar.get_xticklabels()] == labels


def test_sensitivity_of_the_first_seed_is_shown():
    results = comparison({"plain": PLAIN, "ftp": GAIN})
    for run in results.runs:
        if run.seed:
            run.drift.fine_tuned = run.drift.pretrained = None
    assert drift_table(results).header[-2:] == ["largest sensitivity", "pre-trained, largest"]
    assert [row[-2:] for row in drift_table(results).rows] == [["6", "5"]] * 2
    _, markdown = texts(results)
    assert "Sensitivities are of seed 0 alone" in markdown
    assert "typical" not in markdown
    results.chosen_runs("ftp")[0].drift.typical_fine_tuned = 1.25
    assert drift_table(results).rows[1][-1] == "1.25"
    for run in results.runs:
        run.drift.fine_tuned = run.drift.pretrained = run.drift.typical_fine_tuned = None
    _, markdown = texts(results)
    assert "ensitivit" not in markdown


def test_memory_of_a_process_is_not_charted():
    results = comparison({"plain": PLAIN, "ftp": GAIN}, corruptions=())
    for run in results.runs:
        run.summary.hardware.device = "CPU (of some kind), 1 thread"
    assert "memory" not in [name for name, *_ in drawn(results)]


def test_chance_is_in_the_frame_where_it_is_near():
    results = comparison()
    for limits, labels, texts_of in (((0.4, 0.9), 2, ["chance 50.0"]), ((0.8, 0.9), 2, []), ((0.4, 0.9), 0, [])):
        for run in results.runs:
            run.summary.labels = ["yes", "no"][:labels]
        axes = new_figure(2).add_subplot()
        axes.set_ylim(100 * limits[0], 100 * limits[1])
        bare(axes)
        draw_chance(axes, results)
        assert [text.get_text() for text in axes.texts] == texts_of


def test_bars_end_where_figures_do():
    assert deviation([0.97, 0.99, 1.0], (0.0, 1.0)) == pytest.approx((0.015275, 0.013333), abs=1e-5)
    assert deviation([0.5], (0.0, 1.0)) == (0.0, 0.0)
    assert deviation([0.5, math.nan, 0.6], (0.0, 1.0)) == (0.0, 0.0)
    assert deviation([math.inf, 1.0], (0.0, math.inf)) == (0.0, 0.0)


@pytest.mark.parametrize(("metric", "figure"), [("spearman", math.nan), ("loss", math.inf), ("loss", math.nan)])
@pytest.mark.parametrize("method", ["plain", "ftp"])
def test_a_seed_that_diverged_is_reported(method, metric, figure, tmp_path):
    figures = {"plain": PLAIN, "ftp": GAIN}
    results = comparison({**figures, method: [(figure, figure), *figures[method][1:]]}, metric=metric)
    results.save(tmp_path)
    write_report(ComparisonResults.load(tmp_path), tmp_path)
    assert (tmp_path / "report.html").exists()
    found = verdicts(results)[0]
    assert not any(difference.is_known for difference in found.differences.values())
    assert all(found.sign(kind) == 0 for kind in found.differences)
    assert "above" not in headline(results)


def test_a_method_far_from_all_others_is_named_and_left_outside():
    far = [(identity - 0.3, ood) for identity, ood in PLAIN]
    figures = {"plain": PLAIN, "tpgm": TIE, "ftp": GAIN, "linear-probe": far}
    (axes,) = draw_scatter(comparison(figures)).axes
    assert axes.get_title(loc="left") == "outside the frame (ID, OOD):\nLinear probe: 61.0, 61.0"
    assert axes.get_xlim()[0] > 85
    assert {text.get_text() for text in axes.texts} == {"plain", "TPGM", "FTP"}
    (axes,) = draw_scatter(comparison({"plain": PLAIN, "linear-probe": far})).axes
    assert axes.get_xlim()[0] < 60


def test_placed_labels_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    anchors = [tuple(point) for point in rng.uniform(100, 160, (10, 2))]
    sizes = [(60.0, 12.0)] * 10
    centres = place(anchors, sizes, (300, 300), [(*point, *point) for point in anchors])
    for (x, y), (u, v) in itertools.combinations(centres, 2):
        assert abs(x - u) >= 60 or abs(y - v) >= 12
    assert all(30 <= x <= 270 and 6 <= y <= 294 for x, y in centres)


def test_a_label_is_beside_its_mark_rather_than_far_from_all_bars():
    bars = [(0, y, 300, y) for y in range(60, 141, 8)]
    ((_, y),) = place([(150, 100)], [(60.0, 12.0)], (300, 300), bars)
    assert abs(y - 100) < 30


def test_a_label_is_nearest_to_its_own_mark():
    # The second mark is where the label of the first would be at its best, and all around is as full.
    bars = [(0.0, y, 130.0, y) for y in (85.0, 115.0)]
    (x, y), _ = place([(130, 100), (150, 100)], [(20.0, 12.0), (20.0, 12.0)], (300, 300), bars)
    assert math.hypot(max(abs(x - 130) - 10, 0), max(abs(y - 100) - 6, 0)) <= (
        math.hypot(max(abs(x - 150) - 10, 0), max(abs(y - 100) - 6, 0))
    )


def test_placed_labels_avoid_bars():
    ((x, y),) = place([(100, 100)], [(60.0, 12.0)], (300, 300), [(0, 100, 200, 100), (100, 0, 100, 200)])
    assert abs(x - 100) >= 30
    assert abs(y - 100) >= 6


def test_the_best_method_is_never_outside_the_frame():
    """However far it is from others, of which some have the very runs of another."""
    figures = {
        "plain": [(0.94, 0.80)] * 3,
        "small-lr": [(0.94, 0.80)] * 3,
        "l2-sp": [(0.94, 0.81)] * 3,
        "spd": [(0.93, 0.79)] * 3,
        "ftp": [(0.97, 0.99)] * 3,
    }
    (axes,) = draw_scatter(comparison(figures, ood=("sketch",))).axes
    assert axes.get_title(loc="left") == ""
