"""What the examples share: arguments, the fine-tuning run, its evaluation on ID and OOD data, and the results."""

import gc
import logging
import os
import statistics
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from transformers import HfArgumentParser

from ftp_hf import FTPTrainer, FTPTrainingArguments, RunSummary
from ftp_hf.hub.retries import silence_retries
from ftp_hf.tasks import DataOptions, Task, TaskData
from ftp_hf.trainer.plain import PlainTrainer

Script = TypeVar("Script", bound="ScriptArguments")


@dataclass(kw_only=True)
class ScriptArguments(DataOptions):
    """
    The options of [`DataOptions`], and:

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        method (`"ftp"` or `"plain"`, *optional*, defaults to `"ftp"`): Fast Trainable Projection, or fine-tuning as is.
        dtype (`"float32"` or `"bfloat16"`, *optional*, defaults to `"float32"`): what the weights are held in. With
            `"ftp"`, bfloat16 weights have float32 masters in the optimizer; with `"plain"`, they have not.
        resume (`bool`, *optional*, defaults to `False`): go on from the last checkpoint in `output_dir`, if the run was
            started with a `save_strategy` other than `no`.
    """

    model: str = field(metadata={"help": "Hub name or local folder of the pre-trained model."})
    method: Literal["ftp", "plain"] = field(
        default="ftp", metadata={"help": "Fast Trainable Projection, or fine-tuning as it is."}
    )
    dtype: Literal["float32", "bfloat16"] = field(
        default="float32",
        metadata={
            "help": "What the weights are held in. With ftp, bfloat16 weights have float32 masters in the optimizer; with "
            "plain, they have not."
        },
    )
    resume: bool = field(
        default=False,
        metadata={"help": "Go on from the last checkpoint in output_dir. Needs a --save_strategy other than no."},
    )


def parse_arguments(script_class: type[Script]) -> tuple[Script, FTPTrainingArguments]:
    """
    Command-line flags, over the keys of an optional `--config FILE.yaml`, over the defaults.

    Raises:
        SystemExit: a flag or a key is unknown, its value is not allowed, a required one is missing, or the launched
            processes would not train together.
    """
    silence_retries()
    config_parser = ArgumentParser(add_help=False)
    config_parser.add_argument("--config", type=Path, help="YAML file whose keys are the flags.")
    known, flags = config_parser.parse_known_args()

    parser = HfArgumentParser((script_class, FTPTrainingArguments), parents=[config_parser])
    if known.config is not None:
        config = yaml.safe_load(known.config.read_text())
        actions = {action.dest: action for action in parser._actions}
        if unknown := config.keys() - actions.keys():
            parser.error(f"{known.config}: unknown keys: {', '.join(sorted(unknown))}")
        for key, value in config.items():
            action = actions[key]
            # argparse checks flags, but not defaults.
            if action.choices is not None and value not in action.choices:
                parser.error(f"{known.config}: {key} must be one of {', '.join(action.choices)}, got {value!r}")
            if (action.nargs in ("+", "*")) != isinstance(value, list):
                parser.error(
                    f"{known.config}: {key} must {'' if action.nargs == '+' else 'not '}be a list, got {value!r}"
                )
            action.required = False
        parser.set_defaults(**config)
    script, training, _ = parser.parse_args_into_dataclasses(flags)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != training.world_size:
        # Without a GPU the Trainer joins the processes of a launcher only if it is told to use the CPU.
        parser.error(
            f"launched as {launched} processes that would each train alone (world size {training.world_size}): "
            "on CPU, add --use_cpu true"
        )
    return script, training


@contextmanager
def explaining() -> Iterator[None]:
    """End the script with a line for each thing that keeps data or model from being read, in place of a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        problems = (str(error), *getattr(error, "__notes__", ()))
        raise SystemExit("\n".join(" ".join(problem.split()) for problem in problems)) from error


def finetune(script: ScriptArguments, training: FTPTrainingArguments, task: Task, data: TaskData) -> RunSummary:
    """
    Fine-tune, evaluate on the ID test set and each OOD set, save the model, the processor, `results.json` and the model
    card in `output_dir`, print the table, and leave the other processes.

    Returns:
        [`RunSummary`]: the contents of `results.json`.
    """
    results = _finetune(script, training, task, data)
    # A process that exits within its group may abort, and so may one that leaves it while its trainer lives (torch 2.13).
    gc.collect()
    PartialState().destroy_process_group()
    return results


def _finetune(script: ScriptArguments, training: FTPTrainingArguments, task: Task, data: TaskData) -> RunSummary:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("ftp_hf").setLevel(logging.INFO)
    trainer_class = FTPTrainer if script.method == "ftp" else PlainTrainer
    trainer = trainer_class(
        model=task.load_model(dtype=script.dtype),
        args=training,
        train_dataset=task.prepare(data.train, augment=True),
        eval_dataset=task.prepare(data.validation) if data.validation else None,
        data_collator=task.collator,
        processing_class=task.processor,
        compute_metrics=task.compute_metrics,
    )
    trainer.note_settings(**_settings(script))
    for known in data.facts.values():
        if known.kind == "train":
            trainer.note_data(known)
    trainer.train(resume_from_checkpoint=script.resume or None)

    for known, dataset in data.evaluations():
        metrics = trainer.evaluate(task.prepare(dataset), metric_key_prefix=f"eval_{known.name}")
        trainer.note_evaluation(metrics, known)
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    summary = trainer.run_summary()
    if trainer.is_world_process_zero():
        print_results(summary)
    return summary


def _settings(script: ScriptArguments) -> dict[str, Any]:
    """What the script was told beside the model, the data and the method, where it is not the default."""
    named = {"model", "train", "validation", "test", "ood", "method", "resume", "label_column", "text_columns"}
    return {
        option.name: getattr(script, option.name)
        for option in fields(script)
        if option.name not in named and getattr(script, option.name) not in (option.default, [])
    }


def print_results(summary: RunSummary) -> None:
    """Print the accuracies of one run."""
    table = Table(title=f"{summary.base_model.name} fine-tuned: {summary.method}, seed {summary.seed}")
    for column in ("data", "kind"):
        table.add_column(column)
    for column in ("samples", "accuracy %", "balanced %"):
        table.add_column(column, justify="right")
    metrics = ("accuracy", "balanced_accuracy")
    for result in summary.results:
        percents = (f"{100 * summary.value(result.data, metric):.1f}" for metric in metrics)
        kind = "OOD" if result.kind == "ood" else "ID"
        table.add_row(result.data, kind, str(summary.data_facts(result.data).size), *percents)
    if ood := summary.of_kind("ood"):
        means = (
            f"{100 * statistics.fmean(summary.value(result.data, metric) for result in ood):.1f}" for metric in metrics
        )
        table.add_section()
        table.add_row("mean", "OOD", "", *means)
    Console().print(table)
