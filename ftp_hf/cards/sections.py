"""The sections of a model card, each as Markdown: tables and sentences."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from ftp_hf.common.figures import BESIDE, duration, metric_title, size, table
from ftp_hf.runs.facts import DataFacts, EarlierOptions, LogRow, ProjectionFacts
from ftp_hf.runs.summary import RunSummary

from .guard import guard_history, guard_note
from .results import results_note, results_table, seeds_of
from .stages import STAGES_NOTE, stages_table
from .usage import usage

__all__ = ["PAPER", "sections"]

PAPER = "https://arxiv.org/abs/2310.19182"
CITATION = """@inproceedings{tian2023fast,
  title     = {Fast Trainable Projection for Robust Fine-Tuning},
  author    = {Tian, Junjiao and Liu, Yen-Cheng and Smith, James Seale and Kira, Zsolt},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  url       = {https://arxiv.org/abs/2310.19182}
}"""

_MOST_LOG_ROWS = 14
_ADAPTERS = {"LORA": "LoRA", "LOHA": "LoHa", "LOKR": "LoKr", "ADALORA": "AdaLoRA"}
_SHARES_OF_ROWS = ("accuracy", "exact_match", "acc", "acc_norm")
_KINDS = {
    "id": "ID",
    "earlier": "earlier stage",
    "ood": "OOD",
    "retained": "retained",
    "validation": "validation",
    "train": "training",
}


def sections(summary: RunSummary, model_id: str) -> dict[str, Any]:
    """The values of the template's variables, by their names in `template.md`; empty where there is nothing to say."""
    metric = summary.metric
    # Retained sets stand in the main table, each in its own metric.
    of_task = [result for result in summary.results if result.kind not in ("retained", "corrupted")]
    others = [name for result in of_task for name in result.metrics if name not in (metric, *BESIDE)]
    projection = summary.projection
    return {
        "name": summary.name,
        "sentence": _sentence(summary),
        "results": results_table(summary, metric) if metric else "",
        "results_note": results_note(summary, metric) if metric else "",
        "more_results": "\n\n".join(
            f"**{metric_title(name)}**\n\n{results_table(summary, name)}" for name in dict.fromkeys(others)
        ),
        "stages": stages_table(summary),
        "stages_note": STAGES_NOTE,
        "usage": usage(summary, model_id),
        "projection": _projection(summary),
        "excluded": projection.excluded if projection else [],
        "optimizer": _optimizer(summary),
        "hyperparameters": _settings(_of_method(summary, summary.hyperparameters)),
        "defaults": _settings(_of_method(summary, summary.defaults)),
        "log": _log(summary),
        "log_note": _log_note(summary),
        "guard": guard_history(summary.guard),
        "guard_note": guard_note(summary.guard, summary.kept_step),
        "data": _data(summary.data),
        "hardware": _hardware(summary),
        "limits": _limits(summary),
        "commands": "\n".join(summary.commands),
        "reproduce": _reproduce(summary),
        "versions": summary.versions,
        "citation": CITATION if summary.method == "ftp" else "",
    }


def _in_turn(values: Sequence[str], steps: Sequence[int]) -> str:
    """The values of an option one after the other: "1 until step 4, then 0"."""
    changed = [
        f"{value} until step {step}"
        for value, after, step in zip(values, values[1:], steps, strict=False)
        if value != after
    ]
    return ", then ".join([*changed, values[-1]])


def _with_article(adapter: str) -> str:
    return f"{'an' if adapter[0] in 'AEIO' else 'a'} {adapter} adapter"


def _sentence(summary: RunSummary) -> str:
    base = "A pre-trained model"
    if summary.base_model is not None:
        model = summary.base_model
        base = f"[{model.name}](https://huggingface.co/{model.name})" if model.on_hub else f"`{model.name}`"
        if model.revision:
            base += f" (revision `{model.revision[:12]}`)"
    training = [data for data in summary.data if data.kind == "train"]
    on = f" on {_linked(training[0])}" if training and (training[0].source or training[0].name != "train") else ""
    if summary.stages:
        on = f" in {len(summary.stages) + 1} stages" + (f", the last{on}," if on else "")
    task = f" for {summary.task.replace('-', ' ')}" if summary.task else ""
    adapter = f" through {_with_article(_ADAPTERS.get(summary.adapter, summary.adapter))}" if summary.adapter else ""
    if summary.method == "plain":
        return f"{base}, trained{adapter}{on}{task} by plain fine-tuning."
    if summary.method != "ftp":
        return f"{base}, fine-tuned{adapter}{on}{task} by the method `{summary.method}`."
    if adapter:
        kept = "every trained weight within a learned radius of where it started"
    elif summary.stages:
        kept = "every layer within a learned radius of its anchors"
    else:
        kept = "every layer within a learned radius of its pre-trained weights"
    aim = "" if adapter or summary.stages else f" {_aim(summary)}"
    return f"{base}, fine-tuned{adapter}{on}{task} with [Fast Trainable Projection]({PAPER}), which keeps {kept}.{aim}"


def _aim(summary: RunSummary) -> str:
    compared = summary.metric is not None and summary.comparisons
    return f"This is meant to preserve the pre-trained model's robustness{'; the results below say whether it did' if compared else ''}."


def _linked(data: DataFacts) -> str:
    if data.on_hub and data.source:
        revision = f" (revision `{data.revision[:12]}`)" if data.revision else ""
        return f"[{data.source}](https://huggingface.co/datasets/{data.source}){revision}"
    return f"`{data.source if data.name == 'train' else data.name}`"


def _rate(options: EarlierOptions | ProjectionFacts) -> str:
    share = options.radius_share
    return f"{options.radius_lr:g}" if share is None else f"ρ = {share:g} of what a step can move a row by"


def _projection(summary: RunSummary) -> str:
    if (projection := summary.projection) is None:
        return ""
    in_force: list[EarlierOptions | ProjectionFacts] = [*projection.earlier, projection]
    rates = [f"{_rate(options)}, betas {', '.join(f'{b:g}' for b in options.radius_betas)}" for options in in_force]
    steps = [options.until for options in projection.earlier]
    first_rows = ", ".join(f"`{name}`: {count}" for name, count in projection.pretrained_rows.items())
    rows = [
        ["base optimizer", f"`{summary.optimizer}`" if summary.optimizer else ""],
        ["κ", _in_turn([f"{options.kappa:g}" for options in in_force], steps)],
        ["radii", f"learned with Adam, learning rate {_in_turn(rates, steps)}"],
        ["projected parameters", str(len(projection.projected)) if projection.projected else ""],
        ["trained without projection", str(len(projection.excluded))],
        ["projected in their first rows", first_rows],
        ["anchors", f"`{projection.anchors}`" if projection.anchors else "the weights that training started from"],
    ]
    if projection.radii:
        anchors = "the anchors" if summary.stages else "the pre-trained weights"
        start = "where training started" if summary.adapter else anchors
        for label, field in (("radius", "radius"), (f"distance from {start}", "deviation")):
            values = [getattr(value, field) for value in projection.radii.values()]
            rows.append(
                [f"{label}: min, median, max", ", ".join(f"{f(values):.3g}" for f in (min, statistics.median, max))]
            )
    note = (
        "Radii and distances are in units of a row's L1 norm: `max_row ‖W − W0‖₁` is at most the radius, and bounds how far "
        "a linear layer's output can be from the pre-trained one's, on any input in [−1, 1]."
    )
    return table(["", "value"], [row for row in rows if row[1]], left=2) + (f"\n\n{note}" if projection.radii else "")


def _optimizer(summary: RunSummary) -> str:
    if not summary.optimizer:
        return ""
    return f"Fast Trainable Projection around `{summary.optimizer}`" if summary.projection else f"`{summary.optimizer}`"


def _of_method(summary: RunSummary, settings: dict[str, Any]) -> dict[str, Any]:
    """Without the options of a projection that did not happen, which a command may have for all methods."""
    return {name: value for name, value in settings.items() if summary.projection or not name.startswith("ftp_")}


def _settings(settings: dict[str, Any]) -> str:
    rows = [[f"`{name}`", f"`{json.dumps(value, ensure_ascii=False)}`"] for name, value in settings.items()]
    return table(["argument", "value"], rows, left=2) if rows else ""


def _log(summary: RunSummary) -> str:
    rows = _thinned(summary)
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    columns: list[tuple[str, Callable[[LogRow], str]]] = [
        ("step", lambda row: str(row.step)),
        ("epoch", lambda row: _number(row.epoch, ".4g")),
        ("training loss", lambda row: _number(row.loss, ".4f")),
        *((f"validation {name.replace('_', ' ')}", _of_metric(name)) for name in metrics),
        ("median radius", lambda row: _number(row.radius_median, ".3g")),
        ("largest radius", lambda row: _number(row.radius_max, ".3g")),
    ]
    used = [(name, text) for name, text in columns if any(text(row) for row in rows)]
    body = [
        [f"**{text(row)}**" if row.step == summary.kept_step and text(row) else text(row) for _, text in used]
        for row in rows
    ]
    return table([name for name, _ in used], body, left=0) if rows else ""


def _of_metric(name: str) -> Callable[[LogRow], str]:
    return lambda row: _number(row.metrics.get(name), ".4f")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _thinned(summary: RunSummary) -> list[LogRow]:
    """Evenly chosen rows, with the last and that of the kept checkpoint, which has one even if nothing was logged there."""
    rows = list(summary.log)
    if rows and summary.kept_step is not None and all(row.step != summary.kept_step for row in rows):
        rows = sorted([*rows, LogRow(summary.kept_step)], key=lambda row: row.step)
    every = -(-len(rows) // _MOST_LOG_ROWS)
    return [
        row
        for number, row in enumerate(rows, 1)
        if every == 1 or number % every == 0 or number == len(rows) or row.step == summary.kept_step
    ]


def _log_note(summary: RunSummary) -> str:
    shown, logged = len(_thinned(summary)), len(summary.log)
    some = f" ({shown} of {logged} rows; all are in `results.json`)" if shown < logged else ""
    kept = f", with the kept weights, those of step {summary.kept_step}, in bold" if summary.kept_step else ""
    return f"{kept}{some}"


def _data(data: Sequence[DataFacts]) -> str:
    header = ["data set", "for", "rows", "columns", "config", "split", "revision"]
    rows = [
        [
            _named(facts),
            _KINDS[facts.kind],
            "" if facts.size is None else f"{facts.size:,}",
            ", ".join(f"`{column}`" for column in facts.columns),
            facts.config or "",
            facts.split or "",
            f"`{facts.revision[:12]}`" if facts.revision else "",
        ]
        for facts in data
        if facts.kind != "corrupted"  # a row for each severity of each kind
    ]
    used = [number for number in range(len(header)) if any(row[number] for row in rows)]
    if not rows:
        return ""
    return table([header[n] for n in used], [[row[n] for n in used] for row in rows], left=len(used))


def _named(data: DataFacts) -> str:
    if data.on_hub and data.source:
        link = f"[{data.source}](https://huggingface.co/datasets/{data.source})"
        return link if data.name in (data.source, data.kind) else f"{data.name}: {link}"
    return f"{data.name} (`{data.source}`)" if data.source and data.source != data.name else data.name


def _hardware(summary: RunSummary) -> str:
    if (hardware := summary.hardware) is None:
        return ""
    per_step = hardware.seconds_per_step
    rows = [
        ["device", hardware.device],
        ["processes", str(hardware.processes) if hardware.processes > 1 else ""],
        ["steps", "" if summary.steps is None else f"{summary.steps:,}"],
        ["seconds per step (median)", "" if per_step is None else f"{per_step:.3g}"],
        ["training time", "" if hardware.total_seconds is None else duration(hardware.total_seconds)],
        ["peak memory", "" if hardware.peak_memory_bytes is None else size(hardware.peak_memory_bytes)],
    ]
    return table(["", "value"], [row for row in rows if row[1]], left=2)


def _limits(summary: RunSummary) -> list[str]:
    """What the facts themselves say against the model; a person may add to it outside the marks."""
    limits = []
    metric = summary.metric
    if metric is None:
        return ["This model was not evaluated."]
    if not summary.of_kind("ood"):
        corrupted = ", only on copies of its test data with artificial damage" if summary.of_kind("corrupted") else ""
        limits.append(f"It was not evaluated out of distribution{corrupted}.")
    if not summary.of_kind("id"):
        limits.append("It was not evaluated on test data of its own distribution, only on what is listed.")
    if summary.other_seeds:
        seeds = ", ".join(map(str, summary.other_seeds))
        limits.append(
            f"Also trained with {'seeds' if len(summary.other_seeds) > 1 else 'seed'} {seeds}, in another configuration, as after an "
            "update of a library: those figures are not among these, and there is no mean over all."
        )
    elif len(seeds_of(summary.results, metric)) == 1:
        limits.append("One seed was trained: how much the figures vary between seeds is not known.")
    sizes = [data.size for data in summary.data if data.kind in ("id", "ood") and data.size]
    if sizes and min(sizes) < 2000:
        error = math.sqrt(0.9 * (1 - 0.9) / min(sizes))
        varies = (
            f"a figure near 90 % has a standard error of {100 * error:.1f} points from the choice of rows alone"
            if metric in _SHARES_OF_ROWS
            else "other rows would have given other figures, and how much others is not measured"
        )
        limits.append(f"The smallest test set has {min(sizes)} rows: {varies}.")
    if summary.pretrained is None:
        limits.append(
            "The pre-trained model was not evaluated on these data sets, so what was forgotten is not measured."
        )
    if summary.method == "ftp":
        limits.append(
            f"The radii bound how far each layer moved. They are no promise about {metric.replace('_', ' ')} on data not "
            "listed here."
        )
    return limits


def _reproduce(summary: RunSummary) -> str:
    parts = [f"Configuration `{summary.config_hash}`" + (f", seed {summary.seed}" if summary.seed is not None else "")]
    if summary.commit:
        changed = " with uncommitted changes" if summary.commit.endswith("+") else ""
        parts.append(f"commit `{summary.commit.rstrip('+')[:12]}`{changed}")
    return ", ".join(parts) + "."
