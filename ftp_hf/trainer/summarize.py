"""What a `Trainer` knows of its run, as a [`RunSummary`]."""

import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.trainer_pt_utils import AcceleratorConfig

from ftp_hf.common.names import canonical_name
from ftp_hf.common.privacy import public_name, public_value
from ftp_hf.optim.base import ProjectedOptimizer
from ftp_hf.optim.describe import describe_optimizer
from ftp_hf.optim.radii import Radius
from ftp_hf.optim.unwrap import projected_optimizer
from ftp_hf.pretrained.origin import adapter_parameters
from ftp_hf.runs.data import data_facts
from ftp_hf.runs.environment import commands, commit, processor, versions
from ftp_hf.runs.facts import BaseModel, Hardware, ProjectionFacts, RadiusFacts
from ftp_hf.runs.logs import log_rows
from ftp_hf.runs.summary import RunSummary

from .arguments import FTPArguments, named_anchors
from .in_force import first_in_force
from .loading import kept_step
from .model_task import task_of
from .watch import peak_memory

__all__ = ["summarize_run"]

# Where and how a run was watched, saved and pushed: no part of what was trained.
_NOT_HYPERPARAMETERS = re.compile(
    r"(output_dir|logging_.*|log_.*|run_name|report_to|project|trackio_.*|push_.*|hub_.*|disable_tqdm|do_(train|eval|predict)"
    r"|save_.*|local_rank|.*dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor)|debug|use_cpu"
    r"|resume_from_checkpoint|ftp_log_parameters|ftp_(freeze_statistics|probe_epochs|probe_learning_rate)|restore_callback_states.*|enable_jit_checkpoint|skip_memory_metrics"
    r"|remove_unused_columns|label_names|include_for_metrics|eval_on_start|eval_steps|eval_strategy|eval_delay|per_device_eval_batch_size)"
)

# What is `None` until the arguments are made, and then `False`.
_OFF_WHEN_MADE = ("activation_checkpointing", "gradient_checkpointing", "ddp_broadcast_buffers")


def summarize_run(
    trainer: Any,
    *,
    name: str,
    log_history: Sequence[Mapping[str, Any]],
    radii: Mapping[str, Radius],
    step_seconds: Sequence[float],
) -> RunSummary:
    """
    All that the trainer knows after `train()`; the caller, who knows the data sets, adds the evaluations. `log_history` is that
    of the training; `radii`, of the weights that are kept, and `step_seconds` may be empty.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    projected = projected_optimizer(trainer.optimizer)
    hyperparameters, defaults = _hyperparameters(trainer.args, trainer.state)
    # Not all Trainers take these from their arguments.
    own = {name: getattr(trainer, name, None) for name in ("freeze_statistics", "probe_epochs", "probe_learning_rate")}
    hyperparameters |= {name: value for name, value in own.items() if value}
    adapter = next(iter(getattr(model, "peft_config", {}).values()), None)
    # `add_adapter` of transformers leaves the model as it was around them.
    dense = model.get_base_model() if hasattr(model, "get_base_model") else model
    architecture = type(dense).__name__
    return RunSummary(
        name=name,
        method=getattr(trainer, "method_name", "plain" if projected is None else "ftp"),
        task=task_of(type(dense)),
        architecture=architecture,
        base_model=_base_model(dense),
        adapter=None if adapter is None else str(getattr(adapter.peft_type, "value", adapter.peft_type)),
        labels=_labels(dense) if "Classification" in architecture else [],
        problem_type=_problem_type(dense),
        seed=trainer.args.seed,
        steps=trainer.state.global_step,
        kept_step=trainer.state.global_step if trainer.is_in_train else kept_step(trainer.args, trainer.state),
        optimizer=None if trainer.optimizer is None else describe_optimizer(trainer.optimizer),
        projection=None if projected is None else _projection(projected, trainer, radii),
        data=[data_facts(trainer.train_dataset, "train", "train")] if trainer.train_dataset is not None else [],
        hyperparameters=hyperparameters,
        defaults=defaults,
        log=log_rows(log_history),
        hardware=_hardware(trainer, log_history, step_seconds),
        versions=versions(),
        commands=commands(),
        commit=commit(),
    )


def _labels(model: Any) -> list[str]:
    names = getattr(getattr(model, "config", None), "id2label", None) or {}
    return [str(name) for name in names.values()]


def _problem_type(model: Any) -> str | None:
    """Where it is not that of one class, which the models of transformers note too once they were trained."""
    kind = getattr(getattr(model, "config", None), "problem_type", None)
    return None if kind == "single_label_classification" else kind


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
        parameters=sum(each.numel() for each in {*model.parameters()} - adapter_parameters(model)),
        dtype=str(getattr(model, "dtype", "")).removeprefix("torch.") or None,
    )


def _projection(projected: ProjectedOptimizer, trainer: Any, radii: Mapping[str, Radius]) -> ProjectionFacts:
    dense, updates = projected.projected_parameters(), projected.low_rank_updates
    taking_part = dense.keys() | {factor for update in updates for factor in update.factors}
    trained = [canonical_name(name) for group in projected.param_groups for name in group.get("param_names", [])]
    anchors = named_anchors(FTPArguments.of(trainer.args).ftp_anchors)
    return ProjectionFacts(
        **first_in_force(projected),
        radii={name: RadiusFacts(value.radius, value.deviation) for name, value in radii.items()},
        projected=[*dense, *(update.name for update in updates)],
        excluded=[name for name in trained if name not in taking_part],
        pretrained_rows={name: n for name, n in projected.pretrained_rows.items() if n < dense[name].shape[0]},
        anchors=None if anchors is None else public_name(anchors)[0],
        earlier=in_force.earlier if (in_force := getattr(trainer, "options_in_force", None)) else [],
    )


def _hyperparameters(args: Any, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that differ from their default, and the rest."""
    values = args.to_dict()
    if args.auto_find_batch_size and state.train_batch_size is not None:
        # What was found, which the arguments do not say; of all GPUs of a process.
        values["per_device_train_batch_size"] = state.train_batch_size // max(1, args.n_gpu)
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
            value = {name: setting for name, setting in value.items() if setting not in (None, usual.get(name))}
        (rest if _is_default(option.name, value, default) else changed)[option.name] = value
    return changed, rest


def _is_default(option: str, value: Any, default: Any) -> bool:
    empty: tuple[Any, ...] = (None, "", [], {})
    if value == default or (value in empty and default in empty):
        return True
    # Of other options `None` may stand for `True`: a text model of TRL trains in bfloat16 unless `bf16` says otherwise.
    return value is False and default is None and option in _OFF_WHEN_MADE


def _hardware(trainer: Any, log_history: Sequence[Mapping[str, Any]], step_seconds: Sequence[float]) -> Hardware:
    device = trainer.args.device
    return Hardware(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else processor(torch.get_num_threads()),
        processes=trainer.args.world_size,
        seconds_per_step=statistics.median(step_seconds) if step_seconds else None,
        total_seconds=next((e["train_runtime"] for e in reversed(log_history) if "train_runtime" in e), None),
        peak_memory_bytes=peak_memory(device),
    )
