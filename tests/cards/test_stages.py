"""The section of a card on stages that followed one another."""

from ftp_hf.cards.card import model_card
from tests.support.markdown import cells, section
from tests.support.summaries import make_stages


def test_a_row_for_each_stage():
    first, _, third = make_stages()
    header, _, *rows = cells(section(str(model_card(third)), "Stage after stage"))
    assert header == [
        "after",
        *(f"{name} (accuracy in %, more is better)" for name in ("january", "february", "march")),
        header[-1],
    ]
    assert header[-1] == "retained old (wer in %, less is better)"
    assert rows == [
        ["before any", "", "", "", "9.0"],
        ["january", "**90.0**", "", "", "10.0"],
        ["february", "85.0", "**80.0**", "", "12.0"],
        ["march (this model)", "84.0", "60.0", "**70.0**", "15.0"],
    ]
    card = str(model_card(third))
    assert "fine-tuned in 3 stages, the last on `march`, for text classification" in card
    assert "| earlier stage january | 84.0 |" in card
    assert "Stage after stage" not in str(model_card(first))
