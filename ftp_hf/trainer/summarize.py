"""What a `Trainer` tells of its run, as a [`RunSummary`]."""

import dataclasses
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_pt_utils import AcceleratorConfig

from ftp_hf.common.privacy import public_command, public_name, public_value
from ftp_hf.optim.base import ProjectedOptimizer, Radius, projected_optimizer
from ftp_hf.pretrained.anchors import canonical_name
from ftp_hf.runs.summary import BaseModel, DataFacts, Hardware, LogRow, ProjectionFacts, RadiusFacts, RunSummary

from .arguments import FTPArguments

if sys.platform != "win32":
    import resource

__all__ = ["RunWatch", "data_facts", "log_rows", "measured", "summarize_run"]

_TIMINGS = ("_runtime", "_per_second", "_time")

_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForAudioClassification": "audio-classification",
    "ForSemanticSegmentation": "image-segmentation",
    "ForObjectDetection": "object-detection",
}
# Where and how a run was watched, saved and pushed: no part of what was trained.
_NOT_HYPERPARAMETERS = re.compile(
    r"(output_dir|logging_.*|log_.*|run_name|report_to|project|trackio_.*|push_.*|hub_.*|disable_tqdm|do_(train|eval|predict)"
    r"|save_.*|local_rank|.*dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor)|debug|use_cpu"
    r"|resume_from_checkpoint|ftp_log_parameters|restore_callback_states.*|enable_jit_checkpoint|skip_memory_metrics"
    r"|remove_unused_columns|label_names|eval_on_start|eval_steps|eval_strategy|eval_delay|per_device_eval_batch_size)"
)
# What an optimizer holds beside its own options.
_NOT_OPTIONS = {
    "params",
    "param_names",
    "initial_lr",
    "differentiable",
    "capturable",
    "foreach",
    "maximize",
    "decoupled_weight_decay",
}
_PROJECTION_OPTIONS = {"kappa", "radius_lr", "radius_betas", "exclude", "transposed", "anchor_device", "project"}
_HUB_FILE = re.compile(r"hf://datasets/(?P<name>[^@/]+(?:/[^@/]+)?)@(?P<revision>[0-9a-f]{40})")
_LIBRARIES = ("ftp-hf", "transformers", "torch", "accelerate", "peft", "datasets", "tokenizers")


class RunWatch(TrainerCallback):
    """Times the steps of a run, without fetching the batches."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        """Training starts: from here on counts what memory it takes at most."""
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(args.device)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step starts."""
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It has ended."""
        self.seconds.append(time.perf_counter() - self._start)


def summarize_run(
    trainer: Any, *, name: str, log_history: Sequence[Mapping[str, Any]], radii: Mapping[str, Radius], watch: RunWatch
) -> RunSummary:
    """
    All that the trainer knows; what was evaluated is added by the one who knows on what.

    Args:
        trainer (`Trainer`): after `train()`.
        name (`str`): of the model.
        log_history (sequence of `dict`): as `TrainerState.log_history`, of the training.
        radii (mapping from `str` to [`Radius`]): of the weights that are kept; may be empty.
        watch ([`RunWatch`]): which was a callback of the trainer.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    projected = projected_optimizer(trainer.optimizer)
    hyperparameters, defaults = _hyperparameters(trainer.args)
    adapter = next(iter(getattr(model, "peft_config", {}).values()), None)
    dense = model.get_base_model() if adapter is not None else model
    architecture = type(dense).__name__
    return RunSummary(
        name=name,
        method=getattr(trainer, "method_name", "plain" if projected is None else "ftp"),
        task=next((task for suffix, task in _TASKS.items() if architecture.endswith(suffix)), None),
        architecture=architecture,
        base_model=_base_model(dense),
        adapter=None if adapter is None else str(getattr(adapter.peft_type, "value", adapter.peft_type)),
        labels=list(dense.config.id2label.values()) if "Classification" in architecture else [],
        seed=trainer.args.seed,
        steps=trainer.state.global_step,
        kept_step=_kept_step(trainer),
        optimizer=None if trainer.optimizer is None else describe_optimizer(trainer.optimizer),
        projection=None if projected is None else _projection(projected, trainer.args, radii),
        data=[data_facts(trainer.train_dataset, "train", "train")] if trainer.train_dataset is not None else [],
        hyperparameters=hyperparameters,
        defaults=defaults,
        log=log_rows(log_history),
        hardware=_hardware(trainer, watch, log_history),
        versions=_versions(),
        commands=_commands(),
        commit=_commit(),
    )


def data_facts(dataset: Any, name: str, kind: str, source: str | None = None, **facts: Any) -> DataFacts:
    """
    What a data set tells of itself.

    Args:
        dataset (`Dataset`): of any kind; size, columns, and what `datasets` knows of its origin are read where it has them.
        name (`str`): what the results call it.
        kind (`str`): `"train"`, `"validation"`, `"id"` or `"ood"`.
        source (`str`, *optional*): its name on the Hub, or a local path, of which the last part is kept. By default the
            name on the Hub that `datasets` loaded it from.
        **facts: fields of [`DataFacts`] that are known better.
    """
    known = DataFacts(name, kind)
    if hasattr(dataset, "__len__"):
        known.size = len(dataset)
    known.columns = list(getattr(dataset, "column_names", None) or [])
    info = getattr(dataset, "info", None)
    found = next(filter(None, map(_HUB_FILE.match, getattr(info, "download_checksums", None) or {})), None)
    if found:
        known.source, known.on_hub, known.revision = found["name"], True, found["revision"]
        known.config = getattr(info, "config_name", None)
        known.split = str(dataset.split) if getattr(dataset, "split", None) is not None else None
    elif source is not None:
        known.source, known.on_hub = public_name(source)
    return dataclasses.replace(known, **facts)


def measured(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """
    Of what `Trainer.evaluate` returns, what it measured: neither timings nor the epoch.

    Args:
        metrics (mapping from `str` to `float`): as it returns them.
        prefix (`str`): of their names, such as `"eval_"`, which is left out.
    """
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name != "epoch" and not name.endswith(_TIMINGS)
    }


def log_rows(log_history: Sequence[Mapping[str, Any]]) -> list[LogRow]:
    """The logs of a training, a row for each step: the loss, the validation metrics and the radii."""
    rows: dict[int, LogRow] = {}
    for entry in log_history:
        metrics = measured({name: value for name, value in entry.items() if name.startswith("eval_")}, "eval_")
        if "loss" not in entry and not metrics:
            continue
        row = rows.setdefault(entry["step"], LogRow(entry["step"]))
        row.epoch = entry.get("epoch", row.epoch)
        row.loss = entry.get("loss", row.loss)
        row.metrics |= metrics
        row.radius_median = entry.get("ftp_radius_median", row.radius_median)
        row.radius_max = entry.get("ftp_radius_max", row.radius_max)
    return [rows[step] for step in sorted(rows)]


def describe_optimizer(optimizer: Any) -> str:
    """The optimizer that took the steps, without the projection around it, and its options."""
    projected = projected_optimizer(optimizer)
    inner: Any = projected or optimizer
    while isinstance(getattr(inner, "optimizer", None), torch.optim.Optimizer):
        inner = inner.optimizer
    kind = type(inner)
    if isinstance(inner, ProjectedOptimizer):
        kind = next(base for base in kind.__mro__ if not issubclass(base, ProjectedOptimizer))
    options: dict[str, list[Any]] = {}
    for group in inner.param_groups:
        if group["params"]:
            rate = {"lr": group.get("initial_lr", group.get("lr"))}
            for option, value in {**rate, **group, **rate}.items():
                if option not in _NOT_OPTIONS | _PROJECTION_OPTIONS and value is not None and value is not False:
                    values = options.setdefault(option, [])
                    values.extend([] if value in values else [value])
    shown = ", ".join(f"{option}={' or '.join(map(str, values))}" for option, values in options.items())
    module = kind.__module__.split(".")[0]
    return f"{'torch.optim' if module == 'torch' else module}.{kind.__name__}({shown})"


def _base_model(model: Any) -> BaseModel | None:
    config = getattr(model, "config", None)
    origin = getattr(model, "name_or_path", "") or getattr(config, "_name_or_path", "")
    if not origin:
        return None
    name, on_hub = public_name(origin)
    return BaseModel(
        name=name,
        on_hub=on_hub,
        revision=getattr(config, "_commit_hash", None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=str(getattr(model, "dtype", "")).removeprefix("torch.") or None,
    )


def _kept_step(trainer: Any) -> int:
    best = getattr(trainer.state, "best_global_step", None)
    return best if trainer.args.load_best_model_at_end and best else trainer.state.global_step  # type: ignore[no-any-return]


def _projection(projected: ProjectedOptimizer, args: Any, radii: Mapping[str, Radius]) -> ProjectionFacts:
    group = next(group for group in projected.param_groups if group["project"])
    dense, updates = projected.projected_parameters(), projected.low_rank_updates
    taking_part = dense.keys() | {factor for update in updates for factor in update.factors}
    trained = [canonical_name(name) for group in projected.param_groups for name in group.get("param_names", [])]
    anchors = FTPArguments.of(args).ftp_anchors
    return ProjectionFacts(
        kappa=group["kappa"],
        radius_lr=group["radius_lr"],
        radius_betas=list(group["radius_betas"]),
        radii={name: RadiusFacts(value.radius, value.deviation) for name, value in radii.items()},
        projected=[*dense, *(update.name for update in updates)],
        excluded=[name for name in trained if name not in taking_part],
        anchors=None if anchors is None else public_name(anchors)[0],
    )


def _hyperparameters(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that differ from their default, and the rest."""
    values = args.to_dict()
    changed: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for option in dataclasses.fields(args):
        if not option.init or option.name not in values or _NOT_HYPERPARAMETERS.fullmatch(option.name):
            continue
        default = option.default
        if option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        value = public_value(values[option.name])
        default = public_value(getattr(default, "value", default))
        if value is None and default is None:
            continue
        if option.name == "accelerator_config":
            # Filled in when the arguments are made.
            usual = AcceleratorConfig().to_dict()  # type: ignore[no-untyped-call]
            value = {name: setting for name, setting in value.items() if setting and setting != usual.get(name)}
        same = value == default or (not value and not default)
        (rest if same else changed)[option.name] = value
    return changed, rest


def _hardware(trainer: Any, watch: RunWatch, log_history: Sequence[Mapping[str, Any]]) -> Hardware:
    device = trainer.args.device
    peak: int | None
    if device.type == "cuda":
        name, peak = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
    else:
        name, peak = _processor(), _peak_of_process()
    return Hardware(
        device=name,
        processes=trainer.args.world_size,
        seconds_per_step=statistics.median(watch.seconds) if watch.seconds else None,
        total_seconds=next((e["train_runtime"] for e in reversed(log_history) if "train_runtime" in e), None),
        peak_memory_bytes=peak,
    )


def _peak_of_process() -> int | None:
    if sys.platform == "win32":
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    information, threads = Path("/proc/cpuinfo"), torch.get_num_threads()
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU ({names[0] if names else platform.machine()}), {threads} thread{'s' * (threads > 1)}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return versions


def _commands() -> list[str]:
    # Of a notebook or `python -c` the command would tell nothing.
    script = Path(sys.argv[0]) if sys.argv else Path()
    return [public_command(["python", *sys.argv])] if script.suffix == ".py" else []


def _commit() -> str | None:
    """The commit that the script's repository is at; with `+` if it has changed since."""
    git, script = shutil.which("git"), Path(sys.argv[0] if sys.argv else "")
    if git is None or script.suffix != ".py" or not script.is_file():
        return None

    def ask(*command: str) -> str | None:
        finished = subprocess.run(  # noqa: S603 - a fixed command
            [git, "-C", str(script.resolve().parent), *command], capture_output=True, text=True, check=False
        )
        return finished.stdout.strip() if finished.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return f"{commit}+" if commit and ask("status", "--porcelain", "--untracked-files=no") else commit
