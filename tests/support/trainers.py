"""Trainers of tiny models."""

import torch
from transformers import BertForSequenceClassification

from ftp_hf import FTPTrainingArguments

__all__ = ["arguments", "load"]


def load(checkpoint):
    torch.manual_seed(1)
    return BertForSequenceClassification.from_pretrained(checkpoint, num_labels=2)


def arguments(output_dir, cls=FTPTrainingArguments, **overrides):
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
