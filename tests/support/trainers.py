"""Trainers of tiny models."""

import torch
from transformers import BertForSequenceClassification

from ftp_hf import FTPTrainingArguments

__all__ = ["arguments", "load"]


def load(checkpoint, **options):
    """The classifier of a pre-trained encoder, with the same new head every time."""
    torch.manual_seed(1)
    return BertForSequenceClassification.from_pretrained(checkpoint, num_labels=2, **options)


def arguments(output_dir, cls=FTPTrainingArguments, **overrides):
    """8 steps on the CPU, of which nothing is saved, reported or printed."""
    options = {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "max_steps": 8,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return cls(output_dir=str(output_dir), **{**options, **overrides})
