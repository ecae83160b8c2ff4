"""What the examples share: arguments, the fine-tuning run, its evaluation on ID and OOD data, and the results."""

import gc
import logging
import os
import statistics
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import torch
import yaml
from accelerate import PartialState
from progress import ShowProgress
from rich.console import Console
from rich.table import Table
from transformers import HfArgumentParser, PrinterCallback, ProgressCallback, set_seed

from ftp_hf import FTPTrainingArguments, RunSummary
from ftp_hf.common.figures import is_share, main_metric, show
from ftp_hf.common.launched import let_the_first_speak
from ftp_hf.compare.run.progress import quiet
from ftp_hf.hub.retries import silence_retries
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.runs.facts import PRETRAINED
from ftp_hf.tasks import DataOptions, Task, TaskData
from ftp_hf.tasks.classifier import pretrained_labels
from ftp_hf.tasks.data import naming
from ftp_hf.trainer.arguments import with_ftp_options
from ftp_hf.trainer.ftp import ftp_trainer
from ftp_hf.trainer.plain import plain_trainer

Script = TypeVar("Script", bound="ScriptArguments")

_KINDS = {"ood": "OOD", "id": "ID", "validation": "ID"}


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
        evaluate_pretrained (`bool`, *optional*, defaults to `True`): measure the pre-trained model too, where it can do the
            job.
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
    evaluate_pretrained: bool = field(
        default=True, metadata={"help": "Measure the pre-trained model too, where it can do the job."}
    )


class _Parser(HfArgumentParser):
    """An error is one line: the usage of two hundred flags would hide it."""

    def error(self, message: str) -> NoReturn:
        let_the_first_speak()
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def parse_arguments(script_class: type[Script], task_class: type[Task]) -> tuple[Script, FTPTrainingArguments]:
    """
    Command-line flags, over the keys of an optional `--config FILE.yaml`, over the defaults.

    Raises:
        SystemExit: a flag or a key is unknown, its value is not allowed, a required one is missing, or the launched
            processes would not train together. Of several processes the first of each machine says so.
    """
    silence_retries()
    config_parser = _Parser(add_help=False)
    config_parser.add_argument("--config", type=Path, help="YAML file whose keys are the flags.")
    known, flags = config_parser.parse_known_args()
    if flags and not flags[0].startswith("-"):
        config_parser.error(f"{flags[0]} is no flag: a config is named by --config {flags[0]}")

    parser = _Parser((script_class, with_ftp_options(task_class.arguments_class)), parents=[config_parser])
    # Memory is pinned for an accelerator; the first process speaks for all.
    parser.set_defaults(dataloader_pin_memory=torch.cuda.is_available(), log_level_replica="error")
    if known.config is not None:
        config = _read_config(known.config, parser)
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
    try:
        script, training, _ = parser.parse_args_into_dataclasses(flags)
    except ValueError as error:
        parser.error(str(error))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != training.world_size:
        # Without a GPU the Trainer joins the processes of a launcher only if it is told to use the CPU.
        parser.error(
            f"launched as {launched} processes that would each train alone (world size {training.world_size}): "
            "on CPU, add --use_cpu true"
        )
    return script, training


def _read_config(file: Path, parser: _Parser) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"{file}: {error}")
    if not isinstance(config, dict):
        parser.error(f"{file}: must have keys and values, got {config!r}")
    return config


def finetune(script: ScriptArguments, training: FTPTrainingArguments, task_class: type[Task]) -> RunSummary:
    """
    Fine-tune, evaluate on the ID test set and each OOD set, save the model, the processor, `results.json` and the model
    card in `output_dir`, print the table, and leave the other processes. Progress goes to the standard error.

    Returns:
        [`RunSummary`]: the contents of `results.json`.

    Raises:
        SystemExit: the data or the model cannot be read. Of several processes the first of each machine says so.
    """
    own_level = training.log_level != "passive"
    with nullcontext() if own_level else quiet():
        try:
            data = TaskData.load(script, has_labels=task_class.has_labels, head=pretrained_labels(script.model))
            set_seed(training.seed)
            task = task_class(script.model, script, labels=data.labels, label_column=script.label_column)
            for key, name, dataset, numbers in data.named():
                with naming(key, numbers):
                    check = task.check_training if key == "train" else task.check
                    check(f"data set {name!r}", dataset)
            for argument, value in task.arguments().items():
                setattr(training, argument, value)
        except (OSError, ValueError) as error:
            let_the_first_speak()
            problems = (str(error), *getattr(error, "__notes__", ()))
            raise SystemExit(
                "\n".join(f"{Path(sys.argv[0]).name}: error: {' '.join(problem.split())}" for problem in problems)
            ) from error
        console = Console(stderr=True, quiet=training.process_index != 0)
        with ShowProgress(console, disable_bars=training.disable_tqdm or own_level) as shown:
            # In here, where messages go above the bar.
            logging.basicConfig(format="%(message)s")
            logging.getLogger("ftp_hf").setLevel(logging.INFO if training.process_index == 0 else logging.WARNING)
            summary = _finetune(script, training, task, data, shown)
    if training.process_index == 0:
        print_results(summary)
    # A process that exits within its group may abort, and so may one that leaves it while its trainer lives (torch 2.13).
    gc.collect()
    PartialState().destroy_process_group()
    return summary


def _finetune(
    script: ScriptArguments, training: FTPTrainingArguments, task: Task, data: TaskData, shown: ShowProgress
) -> RunSummary:
    make = ftp_trainer if script.method == "ftp" else plain_trainer
    model = task.load_model(dtype=script.dtype)
    trainer = make(task.trainer_class)(
        model=model,
        args=training,
        train_dataset=task.prepare(data.train, augment=True),
        eval_dataset=task.prepare(data.validation) if data.validation else None,
        callbacks=[shown],
        **task.trainer_options(model),
    )
    for replaced in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(replaced)
    trainer.note_settings(**_settings(script))
    for known in data.facts.values():
        if known.kind == "train":
            trainer.note_data(known)
    evaluations = data.evaluations(script.max_eval_samples)
    if script.evaluate_pretrained and not new_parameters(model) and not script.resume:
        for known, dataset in evaluations:
            shown.measured = f"{known.name}, {PRETRAINED}"
            trainer.note_evaluation(task.measure(trainer, dataset), known, model=PRETRAINED)
        shown.measured = None
    trainer.train(resume_from_checkpoint=script.resume or None)

    for known, dataset in evaluations:
        shown.measured = known.name
        trainer.note_evaluation(task.measure(trainer, dataset), known)
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    return trainer.run_summary()


def _settings(script: ScriptArguments) -> dict[str, Any]:
    """What the script was told beside the model, the data and the method, where it is not the default."""
    named = {
        "model",
        "train",
        "validation",
        "test",
        "ood",
        "retained",
        "method",
        "resume",
        "evaluate_pretrained",
        "label_column",
        "text_columns",
    }
    return {
        option.name: getattr(script, option.name)
        for option in fields(script)
        if option.name not in named and getattr(script, option.name) not in (option.default, [])
    }


def print_results(summary: RunSummary) -> None:
    """Print the figures of one run, beside those of the pre-trained model where it was measured."""
    table = Table(title=f"{summary.base_model.name} fine-tuned: {summary.method}, seed {summary.seed}")
    # The loss where a data set has nothing else, though others may.
    metrics = list(
        dict.fromkeys(n for r in summary.results for n in r.metrics if n != "loss" or main_metric(r.metrics) == "loss")
    )
    before = {} if summary.pretrained is None else {(r.kind, r.data): r.metrics for r in summary.pretrained.results}
    for column in ("data", "kind"):
        table.add_column(column)
    for column in ("samples", *(f"{name.replace('_', ' ')}{' %' * is_share(name)}" for name in metrics)):
        table.add_column(column, justify="right")
    if before:
        table.add_column("before", justify="right")
    for result in summary.results:
        main = main_metric(result.metrics)
        values = (_shown(summary.value(result.data, name, result.kind), name) for name in metrics)
        known = before.get((result.kind, result.data), {}).get(main, {})
        start = [_shown(next(iter(known.values()), None), main)] if before else []
        size = str(summary.data_facts(result.data, result.kind).size)
        table.add_row(result.data, _KINDS.get(result.kind, result.kind), size, *values, *start)
    if ood := summary.of_kind("ood"):
        means = (
            _shown(statistics.fmean(summary.value(result.data, name, result.kind) for result in ood), name)
            if all(name in result.metrics for result in ood)
            else ""
            for name in metrics
        )
        table.add_section()
        table.add_row("mean", "OOD", "", *means)
    Console().print(table)


def _shown(value: float | None, metric: str) -> str:
    return "" if value is None else show(value, metric)
