"""The tables of pages that are made of files of results: the studies and runs in model_cards/, and benchmarks/results/."""

import functools
import json
import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ftp_hf import RunSummary
from ftp_hf.common.figures import mean_and_sd, metric_named, show
from ftp_hf.compare import ComparisonResults
from ftp_hf.compare.evidence.formats import difference
from ftp_hf.compare.evidence.measures import REFERENCE, by_seed, finished_seeds, metric_of
from ftp_hf.compare.evidence.statistics import LEAST_SEEDS
from ftp_hf.compare.evidence.stream_results import StreamResults
from ftp_hf.compare.evidence.verdict import Verdict, verdicts
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.runs.facts import Evaluation
from ftp_hf.runs.summary import mean_by_seed

ROOT = Path(__file__).parents[1]
COMPARISONS = ROOT / "model_cards" / "comparisons"
BENCHMARKS = ROOT / "benchmarks" / "results"

STUDIES = {
    "digits": ("small ViT, seven shifts that its pre-training knows", "ftp"),
    "digits_rates_lengths": ("the same at five rates, up to ten times as long", "ftp"),
    "pacs_vit": ("2.7 M ViT, other styles", "ftp"),
    "pacs_mobilenet_statistics_frozen": ("MobileNetV2, other styles", "ftp"),
    "pacs_mobilenet_statistics_train": ("the same with statistics that train", "ftp"),
    "pacs_mobilenet_statistics_probed": ("the same with frozen ones and a probed head", "ftp"),
    "camvid_mobilenet": ("MobileNetV2 segments streets, another day and dusk", "ftp"),
    "camvid_mobilenet_statistics_frozen": ("the same with frozen statistics", "ftp"),
    "sst2_minilm": ("MiniLM-L6, other sorts of text", "ftp"),
    "sst2_lora": ("the same with LoRA + FTP", "lora+ftp"),
    "sts_embeddings": ("MiniLM-L6 as an encoder, other sorts of text", "ftp"),
    "sts_embeddings_lengths": ("the same at five rates, up to ten times as long", "ftp"),
    "sts_embeddings_methods": ("the same at five rates with eight methods", "ftp"),
    "few_labels_minilm": ("MiniLM-L6 sorts reviews by few labels, other sorts of text", "ftp"),
    "tagging_minilm": ("MiniLM-L6 tags requests, other phrasing", "ftp"),
    "spoken_digits": ("Whisper tiny.en learns digits, other accents", "ftp"),
    "spoken_digits_rates": ("the same at five rates", "ftp"),
    "spoken_digits_methods": ("the same at five rates with five methods", "ftp"),
    "spoken_digits_lengths": ("the same at three rates, up to ten times as long", "ftp"),
    "spoken_digits_last": ("the same at two rates, six epochs, with the weights of the last", "ftp"),
    "requests_minilm": ("MiniLM-L6 on a bank's requests", "ftp"),
    "smollm2_gsm8k_lengths": ("SmolLM2-135M on 512 grade-school problems, up to three times as long", "ftp"),
    "smollm2_gsm8k_seeds": ("the same on 64", "ftp"),
    "smollm2_gsm8k_methods": ("the same on 64 at four rates with five methods", "ftp"),
    "smollm2_gsm8k": ("the same on 64 with twelve methods", "ftp"),
}
"""
Of the studies in model_cards/comparisons, in the order of the page: what each is about, and whose row it has there. One that is
not named here has a row all the same, of the first of `_OURS` that it has.
"""

_TESTED = {"id": "ID", "ood": "OOD", "corrupted": "corrupted"}

_OURS = ("ftp", "ftp-share", "lora+ftp", "lora+ftp-share")

_COLUMNS = {
    "digits ID": ("digits", "id"),
    "digits OOD": ("digits", "ood"),
    "PACS ID": ("pacs_vit", "id"),
    "PACS corrupted": ("pacs_vit", "corrupted"),
    "SST-2 ID": ("sst2_minilm", "id"),
    "SST-2 OOD": ("sst2_minilm", "ood"),
}


def every_study() -> str:
    """A row for each study, for a page in `docs/`: those of `STUDIES`, and then the others, with FTP's figures."""
    rows = []
    for name, results in studies().items():
        judged = {verdict.method: verdict for verdict in verdicts(results)}
        about, method = STUDIES.get(name, ("", next(each for each in _OURS if each in judged)))
        if results.metric != "accuracy":
            about = f"{about} ({measure_of(results)})"
        found = judged[method].differences.get("ood")
        rows.append(
            [
                f"{report(name)}{about and f': {about.strip()}'}",
                str(len(finished_seeds(results, method))),
                *(f"{mean_of(results, REFERENCE, kind)} → {mean_of(results, method, kind)}" for kind in ("id", "ood")),
                difference(found, results.metric),
                _told_apart(judged[method]),
            ]
        )
    return _table(["study", "seeds", "ID", "OOD", "difference OOD", "all kinds of data"], rows, left=(0, 5))


def _told_apart(verdict: Verdict) -> str:
    """On which kinds of data the method is better and worse than plain fine-tuning."""
    words = {1: "**win**", -1: "**loss**"}
    told = [f"{word} {found}" for sign, word in words.items() if (found := _clear(verdict, sign))]
    return "; ".join(told) or ("tie" if verdict.differences and verdict.seeds > 1 else "")


def each_method() -> str:
    """
    A row for each method of a comparison but plain fine-tuning: how many studies of enough seeds it was in, in how many of them
    fewer, as many and more settings of it were tried than of plain fine-tuning, and in which it is clearly better and worse.
    """
    judged = [(name, verdict) for name, results in studies().items() for verdict in verdicts(results)]
    rows = []
    for method in (name for name in METHODS if name != REFERENCE):
        own = {name: each for name, each in judged if each.method == method and each.seeds >= LEAST_SEEDS}
        tried = {name: [_tried(studies()[name], each) for each in (method, REFERENCE)] for name in own}
        beside = Counter((ours > plain) - (ours < plain) for ours, plain in tried.values())
        cells = [
            "; ".join(
                f"{report(name)}: {found}{_unequal(*tried[name])}"
                for name, each in own.items()
                if (found := _clear(each, sign))
            )
            for sign in (1, -1)
        ]
        rows.append([f"`{method}`", str(len(own)), " / ".join(str(beside[sign]) for sign in (-1, 0, 1)), *cells])
    return _table(
        ["method", "studies", "settings fewer / as many / more", "clearly better", "clearly worse"],
        rows,
        left=(0, 3, 4),
    )


def _tried(results: ComparisonResults, method: str) -> int:
    """How many settings of a method ID validation chose among."""
    runs = [run for run in results.runs if run.method == method and run.seed == results.seeds[0]]
    return len({tuple(sorted(run.setting.items())) for run in runs})


def _unequal(ours: int, plain: int) -> str:
    return "" if ours == plain else f" ({ours} setting{'s' * (ours != 1)}, `{REFERENCE}` {plain})"


@functools.cache
def studies() -> dict[str, ComparisonResults]:
    """By name, in the order of `STUDIES`; then those that it does not name."""
    names = [path.parent.name for path in sorted(COMPARISONS.glob("*/results.json"))]
    names.sort(key=lambda each: list(STUDIES).index(each) if each in STUDIES else len(STUDIES))
    return {name: ComparisonResults.load(COMPARISONS / name) for name in names}


def report(study: str) -> str:
    return f"[{study}](../model_cards/comparisons/{study}/report.md)"


def _clear(verdict: Verdict, sign: int) -> str:
    """The kinds of data on which a method is clearly better (1) or worse (-1) than plain fine-tuning."""
    kinds = [kind for kind in verdict.differences if verdict.sign(kind) == sign]
    tested = [_TESTED[kind] for kind in kinds if kind in _TESTED]
    kept = [kind.removeprefix("retained/").replace("_", " ") for kind in kinds if kind not in _TESTED]
    return ", ".join([*tested, *([f"retained {', '.join(kept)}"] if kept else [])])


def measure_of(results: ComparisonResults | StreamResults) -> str:
    """What the figures are of, and which way is better."""
    return f"{results.metric}{', less is better' * metric_named(results.metric).less_is_better}"


def methods() -> str:
    """The ten methods of the first three studies side by side."""
    loaded = {name: ComparisonResults.load(COMPARISONS / name) for name, _ in _COLUMNS.values()}
    rows = [
        [f"`{method.name}`", *(_mean_and_sd(loaded[name], method.name, kind) for name, kind in _COLUMNS.values())]
        for method in loaded["digits"].methods
    ]
    return _table(["method", *_COLUMNS], rows)


def adapters() -> str:
    """LoRA with and without FTP: what a study says of accuracy, and a benchmark of time and state."""
    results = ComparisonResults.load(COMPARISONS / "sst2_lora")
    contestants = {
        "full": "plain",
        "full_ftp": "ftp",
        "lora": "lora",
        "lora_ftp": "lora+ftp",
        "lora_factors": "lora+factors",
    }
    rows = []
    for row in _measured("adapters"):
        method, size = contestants[row["contestant"]], row["optimizer_bytes"] / 1e6
        step = f"{row['ms']:,.0f}"
        if row["ratio"] != 1:
            step += f" (× {row['ratio']:.3f})"
        figures = [_mean_and_sd(results, method, kind) for kind in ("id", "ood")]
        parameters = f"{row['trainable_parameters']:,}"
        rows.append([f"`{method}`", *figures, parameters, f"{size:.1f} MB" if size >= 1 else f"{size:.3f} MB", step])
    return _table(["method", "ID test", "OOD mean", "trained parameters", "optimizer state", "step, ms"], rows)


def demo() -> str:
    """What `make demo-digits` came to, as the cards have it."""
    run = RunSummary.load(ROOT / "model_cards" / "digits-vit-ftp")
    plain = run.comparisons[0].results
    rows = [
        [f"{'OOD' if result.kind == 'ood' else 'ID'} {result.data}", *(_of_run([each]) for each in (beside, result))]
        for beside, result in zip(plain, run.results, strict=True)
    ]
    shifted = [[each for each in results if each.kind == "ood"] for results in (plain, run.results)]
    rows.append(["OOD mean", *map(_of_run, shifted)])
    seeds = len(run.results[0].metrics["accuracy"])
    return _table(["data", f"plain ({seeds} seeds)", f"ftp ({seeds} seeds)"], rows)


def training() -> str:
    """A training step under the Trainer."""
    about = {"text": "MiniLM ({:.1f} M), 64 tokens", "vision": "MobileNetV2 ({:.1f} M), 128 pixels"}
    rows = []
    for task, words in about.items():
        by_name = {row["contestant"]: row for row in _measured("training") if row["task"] == task}
        plain, ftp, tpgm = (by_name[name] for name in ("plain", "ftp", "tpgm"))
        added = ftp["optimizer_ms"] - plain["optimizer_ms"]
        steps = [f"{row['ms']:,.0f} ms" for row in (plain, ftp, tpgm)]
        rows.append(
            [words.format(plain["parameters"] / 1e6), *steps, f"{added:.0f} ms ({100 * added / plain['ms']:.1f} %)"]
        )
    return _table(["under the Trainer, batch 32", "plain AdamW", "FTP", "TPGM", "FTP's optimizer step adds"], rows)


_ON_GPU = {
    "adamw_fused": "torch's fused AdamW, float32",
    "adamw_foreach": "torch's AdamW, `foreach`",
    "ftp": "`FTPAdamW`, float32",
    "ftp_bf16_anchors": "`FTPAdamW`, bfloat16 anchors",
    "ftp_bf16_weights": "`FTPAdamW`, bfloat16 weights",
    "ftp_without_masters": "`FTPAdamW`, bfloat16 weights without masters",
    "ftp_host_anchors": "`FTPAdamW`, anchors in host memory",
}
_GPU_MODELS = {"vit_b": "ViT-B (86.6 M), 64 images", "llama_1b": "Llama (1.1 B), 4 texts of 1,024 tokens"}


def gpu_steps() -> str:
    """The optimizer's step and its memory on a GPU."""
    bytes_of = {row["contestant"]: row for row in _measured("h100/memory")}
    billion = {row["contestant"]: row for row in _measured("h100/step_1b")}
    rows = []
    for row in _measured("h100/step"):
        name = row["contestant"]
        larger = f"{billion[name]['ms']:.1f} ms ({billion[name]['ratio']:.2f})" if name in billion else "–"
        memory = [f"{bytes_of[name][key]:.1f}" for key in ("rest", "later_peak")]
        rows.append(
            [_ON_GPU[name], f"{row['ms']:.1f} ms ({row['ratio']:.2f})", f"{row['launches']:,}", larger, *memory]
        )
    head = ["a step of", "ViT-B (86.6 M)", "launches", "Llama (1.1 B)", "bytes a parameter at rest", "at the peak"]
    return _table(head, rows)


def gpu_training() -> str:
    """A whole training step in bfloat16 weights on a GPU."""
    rows = []
    for model, about in _GPU_MODELS.items():
        plain, ftp = _measured(f"h100/{model}")
        rows.append([about, f"{plain['ms']:.1f} ms", f"{ftp['ms']:.1f} ms", f"{ftp['ratio']:.3f}"])
    return _table(["a training step, bfloat16 weights", "torch's fused AdamW", "`FTPAdamW`", "ratio"], rows)


def sharding() -> str:
    """What FTP adds to the traffic of FSDP2, on paper."""
    about = {"vit_b": "ViT-B (86.6 M, 200 tensors)", "llama_1b": "Llama (1.1 B, 201 tensors)"}
    rows = [
        [
            about[row["model"]] if row["processes"] == 8 else "",
            f"{row['processes']:,}",
            _bytes(row["fsdp_mb"]),
            f"{_bytes(row['received_kb'] / 1e3)} ({row['received_percent']:.2g} %)",
            _bytes(row["adamw_state_mb"]),
            _bytes(row["ftp_adds_mb"]),
        ]
        for row in _measured("sharding")
    ]
    head = ["per process and step", "GPUs", "FSDP2 moves", "FTP receives", "AdamW's state", "FTP adds"]
    return _table(head, rows)


def _bytes(megabytes: float) -> str:
    if megabytes < 1:
        return f"{1e3 * megabytes:.0f} kB"
    size, unit = (megabytes, "MB") if megabytes < 1e3 else (megabytes / 1e3, "GB")
    return f"{size:.2g} {unit}" if size < 10 else f"{size:.0f} {unit}"


def _measured(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def mean_of(results: ComparisonResults, method: str, kind: str) -> str:
    """The mean over the seeds, as it is shown."""
    figures = list(by_seed(results, method, kind).values())
    return show(statistics.fmean(figures), metric_of(results, kind)) if figures else "–"


def _mean_and_sd(results: ComparisonResults, method: str, kind: str) -> str:
    return mean_and_sd(list(by_seed(results, method, kind).values()), results.metric)


def _of_run(results: Sequence[Evaluation]) -> str:
    return mean_and_sd(list(mean_by_seed(results, "accuracy").values()), "accuracy")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    line = ["---" if column in left else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, line, *rows))
