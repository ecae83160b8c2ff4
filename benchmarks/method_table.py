"""The table of docs/methods.md, made of what methods.py measured and of what METHODS says."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftp_hf.common.figures import MINUS, table
from ftp_hf.compare.run.method_kinds import Continued, Method, Trained
from ftp_hf.compare.run.methods import METHODS

BEGIN = "<!-- benchmarks/methods.py writes from here -->"
END = "<!-- to here -->"

HEADER = [
    *("method", "extra memory, bytes a parameter", "time a step"),
    *("needs data", "needs labels", "works with LoRA", "works sharded"),
]
DATA = {"held_out_dataset": "ID validation data"}
"""What methods take besides the training data, by the keyword in `needs`. All of it is of use only with labels."""

ON_LANGUAGE = "on a language model beside plain fine-tuning of it, as new heads are refused"
COMPUTED = "computed after training from saved weights: those of adapters merged, those of shards gathered"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each method of METHODS, and below the table why what is refused is."""
    by_name = {row["method"]: row for row in rows}
    reasons: list[str] = []
    lines = [_line(name, method, by_name, reasons) for name, method in METHODS.items()]
    notes = [f"{number}. {text}" for number, text in enumerate(reasons, 1)]
    return "\n".join([table(HEADER, lines, left=len(HEADER)), *(["", *notes] if notes else [])])


def written(page: str, content: str) -> str:
    """
    A page with its table replaced.

    Raises:
        ValueError: it has no place for a table.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"the page has no line {BEGIN!r} with a line {END!r} after it: write them where the table goes"
        )
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def _line(name: str, method: Method, by_name: Mapping[str, Mapping[str, Any]], reasons: list[str]) -> list[str]:
    if not isinstance(method, Trained):
        if isinstance(method, Continued):
            return [f"`{name}`", *[f"as `{method.base}`"] * 2, "no", "no", *[f"as `{method.base}`"] * 2]
        return [f"`{name}`", "none", "none", "no", "no", *[_noted("afterwards", COMPUTED, reasons)] * 2]
    data = ", ".join(DATA[name] for name in method.needs if name in DATA) or "no"
    labels = "no" if data == "no" else "yes"
    row = by_name.get(name)
    if row is None:
        return [f"`{name}`", *["not measured"] * 2, data, labels, *["not measured"] * 2]
    if "refused" in row:
        cost = [_noted("no", row["refused"], reasons)] * 2
    else:
        cost = [_memory(row), _time(row)]
        if row["task"] != "text-classification":
            cost = [_noted(cell, ON_LANGUAGE, reasons) for cell in cost]
    accepted = [_noted("no", row[key], reasons) if row[key] else "yes" for key in ("lora", "sharded")]
    return [f"`{name}`", *cost, data, labels, *accepted]


def _memory(row: Mapping[str, Any]) -> str:
    extra = row["extra_bytes_per_parameter"]
    text = f"{abs(extra):.1f}"
    return text if text == "0.0" else f"{'+' if extra > 0 else MINUS}{text}"


def _time(row: Mapping[str, Any]) -> str:
    if "ratio" not in row:
        return "not measured"
    return f"{row['ratio']:.2f}× [{row['lowest_ratio']:.2f}, {row['highest_ratio']:.2f}]"


def _noted(cell: str, reason: str, reasons: list[str]) -> str:
    if reason not in reasons:
        reasons.append(reason)
    return f"{cell} ({reasons.index(reason) + 1})"
