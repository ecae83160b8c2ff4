"""What the examples share: arguments, the fine-tuning run, its evaluation on ID and OOD data, and the results."""

import gc
import logging
import os
import statistics
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
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
from transformers import EvalPrediction, HfArgumentParser, Trainer

from ftp_hf import (
    CompleteLoadingMixin,
    CompleteSavingMixin,
    DataFacts,
    FTPTrainer,
    FTPTrainingArguments,
    ModelCardMixin,
    RunSummary,
    data_facts,
)

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


class PlainTrainer(ModelCardMixin, CompleteSavingMixin, CompleteLoadingMixin, Trainer):
    """`Trainer` with what `FTPTrainer` has beside the projection: whole checkpoints, and cards that tell what happened."""


@dataclass
class Data:
    """The loaded data sets, all in one label space. `ood` is by name, `facts` by kind and name."""

    train: Dataset
    validation: Dataset | None
    test: Dataset
    ood: dict[str, Dataset]
    labels: list[str]
    dtype: str
    facts: dict[tuple[str, str], DataFacts]

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
        held_out = script.validation_fraction is not None
        facts = [
            _facts(train, "train", "train", script.train),
            *(
                [_facts(validation, "validation", "validation", script.validation or script.train, held_out)]
                if validation
                else []
            ),
            _facts(test, "test", "id", script.test),
            *(_facts(ood[spec.name], spec.name, "ood", text) for spec, text in zip(specs, script.ood, strict=True)),
        ]
        by_name = {(known.kind, known.name): known for known in facts}
        return cls(train, validation, test, ood, labels, script.dtype, by_name)

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


def _facts(dataset: Dataset, name: str, kind: str, text: str, held_out: bool = False) -> DataFacts:
    spec = DatasetSpec.parse(text)
    if kind == "train" and text.startswith(f"{spec.name}="):
        name = spec.name
    split = spec.value if spec.column == "split" else None if Path(spec.source).is_file() else spec.split
    known = {"config": spec.config, "split": f"{split or 'train'}, held out" if held_out else split}
    return data_facts(dataset, name, kind, spec.source, **{key: value for key, value in known.items() if value})


def finetune(
    script: ScriptArguments, training: FTPTrainingArguments, model: Any, processor: Any, collator: Any, data: Data
) -> RunSummary:
    """
    Fine-tune, evaluate on the ID test set and each OOD set, save the model, the processor, `results.json` and the model
    card in `output_dir`, print the table, and leave the other processes.

    Returns:
        [`RunSummary`]: the contents of `results.json`.
    """
    results = _finetune(script, training, model, processor, collator, data)
    # A process that exits within its group may abort, and so may one that leaves it while its trainer lives (torch 2.13).
    gc.collect()
    PartialState().destroy_process_group()
    return results


def _finetune(
    script: ScriptArguments, training: FTPTrainingArguments, model: Any, processor: Any, collator: Any, data: Data
) -> RunSummary:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("ftp_hf").setLevel(logging.INFO)
    scores = Scores(keep_in_memory=True)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        predictions = np.argmax(prediction.predictions, axis=-1)
        return scores.compute(predictions=predictions, references=prediction.label_ids)

    trainer_class = FTPTrainer if script.method == "ftp" else PlainTrainer
    trainer = trainer_class(
        model=model,
        args=training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=collator,
        processing_class=processor,
        compute_metrics=compute_metrics,
    )
    trainer.note_settings(**_settings(script))
    for known in data.facts.values():
        if known.kind == "train":
            trainer.note_data(known)
    trainer.train(resume_from_checkpoint=script.resume or None)

    named = [("validation", "validation", data.validation), ("id", "test", data.test)]
    for kind, name, dataset in [*named, *(("ood", name, dataset) for name, dataset in data.ood.items())]:
        if dataset is not None:
            metrics = trainer.evaluate(dataset, metric_key_prefix=f"eval_{name}")
            trainer.note_evaluation(metrics, data.facts[kind, name])
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
