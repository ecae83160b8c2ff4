"""What the examples share: arguments, the fine-tuning run, its evaluation on ID and OOD data, and the results."""

import gc
import json
import logging
import os
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import evaluate
import numpy as np
import yaml
from accelerate import PartialState
from datasets import Dataset, Features, Value
from datasets_by_name import DatasetSpec, check_labels, label_names
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from transformers import EvalPrediction, HfArgumentParser, Trainer, TrainerCallback

from ftp_hf import CompleteLoadingMixin, CompleteSavingMixin, FTPTrainer, FTPTrainingArguments
from ftp_hf.atomic_files import replacing

Script = TypeVar("Script", bound="ScriptArguments")


@dataclass
class ScriptArguments:
    """
    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        train (`str`): training data; a data set is `[NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE]`, with a Hub name or
            a local path for `SOURCE`.
        test (`str`): ID test data.
        validation (`str`, *optional*): ID data evaluated at the end, to choose hyper-parameters on.
        validation_fraction (`float`, *optional*): instead of `validation`, hold out this share of the training data,
            stratified by label and the same for every seed.
        ood (`list[str]`, *optional*, defaults to `[]`): OOD test data, each evaluated on its own.
        method (`"ftp"` or `"plain"`, *optional*, defaults to `"ftp"`): Fast Trainable Projection, or fine-tuning as is.
        dtype (`"float32"` or `"bfloat16"`, *optional*, defaults to `"float32"`): what the weights are held in. With
            `"ftp"`, bfloat16 weights have float32 masters in the optimizer; with `"plain"`, they have not.
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices.
        label_aliases (`list[str]`, *optional*, defaults to `[]`): `OTHER=LABEL` for each label that a data set calls
            otherwise than the training data does.
        max_train_samples (`int`, *optional*): train on the first rows only.
        resume (`bool`, *optional*, defaults to `False`): go on from the last checkpoint in `output_dir`, if the run was
            started with a `save_strategy` other than `no`.
    """

    model: str = field(metadata={"help": "Hub name or local folder of the pre-trained model."})
    train: str = field(
        metadata={
            "help": "Training data. A data set is [NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE], with a Hub name or a "
            "local path for SOURCE."
        }
    )
    test: str = field(metadata={"help": "ID test data."})
    validation: str | None = field(
        default=None, metadata={"help": "ID data evaluated at the end, to choose hyper-parameters on."}
    )
    validation_fraction: float | None = field(
        default=None,
        metadata={
            "help": "Instead of validation, hold out this share of the training data, stratified by label and the same "
            "for every seed."
        },
    )
    ood: list[str] = field(default_factory=list, metadata={"help": "OOD test data, each evaluated on its own."})
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
    label_column: str = field(default="label", metadata={"help": "The column of class indices."})
    label_aliases: list[str] = field(
        default_factory=list,
        metadata={"help": "OTHER=LABEL for each label that a data set calls otherwise than the training data does."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first rows only."})
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


class Scores(evaluate.Metric):
    """Accuracy, and accuracy averaged over the classes, from class indices."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="Class indices.",
            features=Features({"predictions": Value("int64"), "references": Value("int64")}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "balanced_accuracy": float(balanced_accuracy_score(references, predictions)),
        }


class StepTimer(TrainerCallback):
    """Records how long each training step takes: forward, backward and optimizer, without fetching the batches."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


class PlainTrainer(CompleteSavingMixin, CompleteLoadingMixin, Trainer):
    """`Trainer`, which resumes models with renamed tensors too, and only from whole checkpoints."""


@dataclass
class Data:
    """The loaded data sets, all in one label space. `ood` is by name."""

    train: Dataset
    validation: Dataset | None
    test: Dataset
    ood: dict[str, Dataset]
    labels: list[str]
    dtype: str

    @classmethod
    def load(cls, script: ScriptArguments) -> "Data":
        train = DatasetSpec.parse(script.train).load()
        labels = label_names(train, script.label_column)
        if script.validation is not None and script.validation_fraction is not None:
            raise ValueError("give either --validation or --validation_fraction, not both")
        validation = DatasetSpec.parse(script.validation).load() if script.validation else None
        if script.validation_fraction is not None:
            parts = train.train_test_split(script.validation_fraction, seed=0, stratify_by_column=script.label_column)
            train, validation = parts["train"], parts["test"]
        if script.max_train_samples is not None:
            train = train.select(range(min(script.max_train_samples, len(train))))
        test = DatasetSpec.parse(script.test).load()
        specs = [DatasetSpec.parse(spec) for spec in script.ood]
        if repeated := {spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1}:
            raise ValueError(f"--ood has several data sets named {sorted(repeated)}: name them with NAME=SOURCE")
        ood = {spec.name: spec.load() for spec in specs}
        aliases = dict(alias.split("=", 1) for alias in script.label_aliases)
        for name, dataset in {"train": train, "validation": validation, "test": test, **ood}.items():
            if dataset is not None:
                check_labels(name, dataset, script.label_column, labels, aliases)
        return cls(train, validation, test, ood, labels, script.dtype)

    def model_options(self) -> dict[str, Any]:
        """What `from_pretrained` has to know for a classifier of these labels."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
            "ignore_mismatched_sizes": True,
            "dtype": self.dtype,
        }

    def map(self, transform: Callable[[Dataset], Dataset]) -> "Data":
        """The same data sets, each transformed (the training data too)."""
        validation = None if self.validation is None else transform(self.validation)
        ood = {name: transform(dataset) for name, dataset in self.ood.items()}
        return replace(self, train=transform(self.train), validation=validation, test=transform(self.test), ood=ood)


def finetune(
    script: ScriptArguments, training: FTPTrainingArguments, model: Any, processor: Any, collator: Any, data: Data
) -> dict[str, Any]:
    """
    Fine-tune, evaluate on the ID test set and each OOD set, save the model, the processor and `results.json` in
    `output_dir`, print the table, and leave the other processes.

    Returns:
        `dict`: the contents of `results.json`.
    """
    results = _finetune(script, training, model, processor, collator, data)
    # A process that exits within its group may abort, and so may one that leaves it while its trainer lives (torch 2.13).
    gc.collect()
    PartialState().destroy_process_group()
    return results


def _finetune(
    script: ScriptArguments, training: FTPTrainingArguments, model: Any, processor: Any, collator: Any, data: Data
) -> dict[str, Any]:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("ftp_hf").setLevel(logging.INFO)
    scores = Scores(keep_in_memory=True)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        predictions = np.argmax(prediction.predictions, axis=-1)
        return scores.compute(predictions=predictions, references=prediction.label_ids)

    timer = StepTimer()
    trainer_class = FTPTrainer if script.method == "ftp" else PlainTrainer
    trainer = trainer_class(
        model=model,
        args=training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=collator,
        processing_class=processor,
        compute_metrics=compute_metrics,
        callbacks=[timer],
    )
    trainer.train(resume_from_checkpoint=script.resume or None)

    def accuracy(dataset: Dataset, name: str) -> dict[str, Any]:
        metrics = trainer.evaluate(dataset, metric_key_prefix=f"eval_{name}")
        return {
            "samples": len(dataset),
            "accuracy": metrics[f"eval_{name}_accuracy"],
            "balanced_accuracy": metrics[f"eval_{name}_balanced_accuracy"],
        }

    id_sets = {"validation": data.validation, "test": data.test}
    results = {
        "model": script.model,
        "method": script.method,
        "dtype": script.dtype,
        "seed": training.seed,
        "learning_rate": training.learning_rate,
        "steps": trainer.state.global_step,
        "seconds_per_step": statistics.median(timer.seconds) if timer.seconds else None,
        "id": {name: accuracy(dataset, name) for name, dataset in id_sets.items() if dataset is not None},
        "ood": {name: accuracy(dataset, name) for name, dataset in data.ood.items()},
        "command": " ".join(sys.argv),
    }
    trainer.save_model()
    trainer.save_state()
    if trainer.is_world_process_zero():
        with replacing(Path(training.output_dir) / "results.json") as part:
            part.write_text(json.dumps(results, indent=2) + "\n")
        print_results(results)
    return results


def print_results(results: dict[str, Any]) -> None:
    """Print the accuracies of one run."""
    table = Table(title=f"{results['model']} fine-tuned: {results['method']}, seed {results['seed']}")
    for column in ("data", "kind"):
        table.add_column(column)
    for column in ("samples", "accuracy %", "balanced %"):
        table.add_column(column, justify="right")
    for kind in ("id", "ood"):
        for name, result in results[kind].items():
            percents = (f"{100 * result[key]:.1f}" for key in ("accuracy", "balanced_accuracy"))
            table.add_row(name, kind.upper(), str(result["samples"]), *percents)
    if results["ood"]:
        means = (
            f"{100 * statistics.fmean(result[key] for result in results['ood'].values()):.1f}"
            for key in ("accuracy", "balanced_accuracy")
        )
        table.add_section()
        table.add_row("mean", "OOD", "", *means)
    Console().print(table)
