"""Stage after stage as versions: what passes is pushed, the history shows what each could do, and one is brought back."""

import pytest

from ftp_hf.cards.card import write_model_card
from ftp_hf.cli import main
from ftp_hf.hub import HubError, history, push_run, rollback
from tests.support.hub.faults import answer
from tests.support.hub.runs import titles, write_rules, write_run
from tests.support.summaries import make_stages

RULES = ["earlier_worst >= learnt - 0.1", "retained/old <= pretrained + 0.04"]


@pytest.fixture
def runs(tmp_path):
    """The folders of three runs one after the other, of which the last breaks a rule."""
    folders = []
    for number, summary in enumerate(make_stages()):
        folder = write_run(tmp_path / f"stage{number}", seed=number)
        (folder / "README.md").unlink()
        summary.save(folder)
        write_model_card(summary, folder)
        folders.append(folder)
    return folders


def test_from_version_to_version(hub, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    rules = str(write_rules(tmp_path / "rules.yaml", *RULES))
    first, second, third = map(str, runs)
    assert main(["push", first, "me/model"]) == 0
    assert main(["push", second, "me/model", "--rules", rules]) == 0
    assert main(["push", third, "me/model", "--rules", rules]) == 1
    assert (
        "stage2 breaks earlier_worst >= learnt - 0.1 (february: it is 0.6, against 0.7); retained/old"
        in capsys.readouterr().err
    )
    assert len(titles(hub)) == 2
    assert main(["check", third, "--rules", rules]) == 1
    assert "earlier_worst >= learnt - 0.1 (february)" in capsys.readouterr().out

    assert main(["push", third, "me/model"]) == 0
    assert main(["rollback", "me/model", "--to", "v2"]) == 0
    capsys.readouterr()
    assert main(["history", "me/model"]) == 0
    said = capsys.readouterr().out.replace("┃", "│").splitlines()
    table = [[cell.strip() for cell in line.split("│")] for line in said]
    assert [line[1:-1] for line in table if len(line) == 7] == [
        ["version", "january", "february", "march", "retained old (wer)"],
        ["v1", "90.0", "", "", "10.0"],
        ["v2", "85.0", "80.0", "", "12.0"],
        ["v3", "84.0", "60.0", "70.0", "15.0"],
        ["v4", "85.0", "80.0", "", "12.0"],
    ]
    card = hub.store.objects.path(hub.store.get("me/model").file("main", "README.md").key).read_text()
    assert "## Stage after stage" in card
    assert "february (this model)" in card


@pytest.mark.usefixtures("hub")
def test_versions_without_figures(runs, run):
    push_run(run, "me/model")
    (runs[1] / "results.json").write_text('{"version": 9}')
    push_run(runs[1], "me/model")
    push_run(runs[0], "me/model")
    assert [version.figures for version in history("me/model")] == [
        None,
        None,
        {"id/january": {"accuracy": 0.9}, "retained/old": {"wer": 0.1}},
    ]
    assert rollback("me/model", "v1").tag == "v4"
    assert history("me/model")[-1].figures is None


@pytest.mark.usefixtures("waits")
def test_figures_that_cannot_be_read(hub, runs):
    push_run(runs[0], "me/model")
    hub.faults.add("HEAD", "/resolve/", answer(503), times=2)
    assert history("me/model")[0].figures["id/january"] == {"accuracy": 0.9}
    push_run(runs[1], "me/model")
    hub.faults.add("HEAD", "/resolve/", answer(503), times=1000)
    with pytest.raises(HubError, match="me/model: reading the figures failed: the Hub answers 503"):
        history("me/model")
