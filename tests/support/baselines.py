"""Short runs of small models under each of the Trainers."""

import torch
from datasets import Dataset
from transformers import BertForSequenceClassification, TrainingArguments

from ftp_hf.baselines import L2SPTrainerMixin, LinearProbeTrainerMixin, SPDTrainerMixin, TPGMTrainerMixin
from ftp_hf.trainer.plain import PlainTrainer

VOCABULARY, WIDTH = 30, 8
HEAD = {"classifier.weight", "classifier.bias"}


class L2SPTrainer(L2SPTrainerMixin, PlainTrainer):
    pass


class SPDTrainer(SPDTrainerMixin, PlainTrainer):
    pass


class TPGMTrainer(TPGMTrainerMixin, PlainTrainer):
    pass


class LinearProbeTrainer(LinearProbeTrainerMixin, PlainTrainer):
    pass


def sentences(count, seed):
    tokens = torch.randint(5, VOCABULARY, (count, 6), generator=torch.Generator().manual_seed(seed))
    labels = (tokens[:, 1] > tokens[:, 2]).long()
    return Dataset.from_dict({"input_ids": tokens.tolist(), "labels": labels.tolist()})


def load(checkpoint, **options):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(checkpoint, num_labels=2, **options)
    model.accepts_loss_kwargs = False  # or its loss is multiplied by the accumulation steps (transformers#47688)
    return model


def arguments(output_dir, **overrides):
    options = {
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 4,
        "max_steps": 8,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(output_dir=str(output_dir), **{**options, **overrides})


def make(trainer_class, model, dataset, output_dir, method=None, **overrides):
    return trainer_class(model=model, args=arguments(output_dir, **overrides), train_dataset=dataset, **(method or {}))


def train(trainer_class, model, dataset, output_dir, method=None, **overrides):
    trainer = make(trainer_class, model, dataset, output_dir, method, **overrides)
    trainer.train()
    return trainer


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def distance(model, start):
    """How far the pre-trained parameters are from where they started."""
    squares = [(tensor - start[name]).square().sum() for name, tensor in model.state_dict().items() if name not in HEAD]
    return float(torch.stack(squares).sum().sqrt())
