"""Runs under a guard: they learn for 12 steps, and unlearn for 12."""

import json

import torch
from transformers import BertForSequenceClassification, Trainer, TrainingArguments

from ftp_hf import FTPTrainer, FTPTrainingArguments, RobustnessGuard
from tests.support.models import tiny_bert_config
from tests.support.trainers import arguments

__all__ = ["CONFIG", "HALF", "SETS", "falling", "guarded", "make_trainer", "written"]

CONFIG = tiny_bert_config(num_hidden_layers=1)


# At the first evaluations both learn; from step 12 on all labels are wrong.
RULES = {
    FTPTrainer: ["id/test >= 0.6", "ood_mean >= pretrained"],
    Trainer: ["id/test >= 0.8", "ood_mean >= pretrained"],
}


HALF = ["ood_mean >= 0.5"]


def rows(seed, size, noise=0.0, wrong_from=None):
    """Tokens of one of two ranges, by label, some replaced by any token."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 2
    tokens = torch.randint(5, 27, (size, 8), generator=generator) + 22 * labels[:, None]
    replaced = torch.rand((size, 8), generator=generator) < noise
    tokens = torch.where(replaced, torch.randint(5, 50, (size, 8), generator=generator), tokens)
    if wrong_from is not None:
        labels[wrong_from:] = 1 - labels[wrong_from:]
    return [{"input_ids": row, "labels": int(label)} for row, label in zip(tokens, labels, strict=True)]


SETS = {"id/test": rows(2, 40), "ood/noise": rows(3, 40, noise=0.3)}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def make_trainer(kind, output_dir, *, model=None, callbacks=(), **options):
    torch.manual_seed(1)
    defaults = {
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": 8,
        "max_steps": 24,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 4,
        "save_total_limit": 1,
        "logging_steps": 500,
    }
    arguments_class = FTPTrainingArguments if issubclass(kind, FTPTrainer) else TrainingArguments
    return kind(
        model or BertForSequenceClassification(CONFIG),
        arguments(output_dir, arguments_class, **{**defaults, **options}),
        train_dataset=rows(0, 192, wrong_from=96),
        eval_dataset=rows(1, 24),
        compute_metrics=accuracy,
        callbacks=list(callbacks),
    )


def guarded(kind, output_dir, *, rules=None, data=SETS, action="roll_back", guard_options=None, **options):
    trainer = make_trainer(kind, output_dir, **options)
    guard = RobustnessGuard(
        trainer, data, RULES[kind] if rules is None else rules, action=action, **(guard_options or {})
    )
    trainer.add_callback(guard)
    return trainer, guard


def falling(trainer, guard):
    """The accuracy is whatever the step says: a half at step 12."""
    trainer.compute_metrics = lambda _: {"accuracy": 1 - trainer.state.global_step / 24}
    return trainer, guard


def written(folder):
    return [json.loads(line) for line in (folder / "guard.jsonl").read_text().splitlines()]
