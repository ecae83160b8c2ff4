"""Short runs of small models under each of the Trainers."""

import torch
from datasets import Dataset
from transformers import ResNetConfig, ResNetModel, TrainingArguments

from ftp_hf.baselines import (
    EWCTrainerMixin,
    FLOWTrainerMixin,
    KLTrainerMixin,
    L2SPTrainerMixin,
    LDIFSTrainerMixin,
    LinearProbeTrainerMixin,
    MoFOTrainerMixin,
    SPDTrainerMixin,
    TPGMTrainerMixin,
)
from ftp_hf.pretrained.loading import mark_loaded
from ftp_hf.trainer.plain import PlainTrainer
from tests.support import trainers

VOCABULARY = 30
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
}
HEAD = {"classifier.weight", "classifier.bias"}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class FLOWTrainer(FLOWTrainerMixin, PlainTrainer):
    pass


class KLTrainer(KLTrainerMixin, PlainTrainer):
    pass


class LDIFSTrainer(LDIFSTrainerMixin, PlainTrainer):
    pass


class L2SPTrainer(L2SPTrainerMixin, PlainTrainer):
    pass


class SPDTrainer(SPDTrainerMixin, PlainTrainer):
    pass


class TPGMTrainer(TPGMTrainerMixin, PlainTrainer):
    pass


class EWCTrainer(EWCTrainerMixin, PlainTrainer):
    pass


class MoFOTrainer(MoFOTrainerMixin, PlainTrainer):
    pass


class LinearProbeTrainer(LinearProbeTrainerMixin, PlainTrainer):
    pass


BESIDE = {
    "kl": (KLTrainer, {"lambda_": 2.0}),
    "ldifs": (LDIFSTrainer, {"lambda_": 2.0}),
    "flow": (FLOWTrainer, {}),
}
"""The methods that have the pre-trained model beside the trained one, whose head is pre-trained too."""


def sentences(count, seed):
    tokens = torch.randint(5, VOCABULARY, (count, 6), generator=torch.Generator().manual_seed(seed))
    labels = (tokens[:, 1] > tokens[:, 2]).long()
    return Dataset.from_dict({"input_ids": tokens.tolist(), "labels": labels.tolist()})


def bright_images():
    """16 images of two classes, whose mean is far from 0."""
    pixels = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 2
    return [{"pixel_values": image, "labels": index % 2} for index, image in enumerate(pixels)]


def save_resnet(folder):
    """A pre-trained network with batch norm in `folder`."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    return folder


def nudge(model, by):
    """Move what is trained, as training would, so that the model answers otherwise than the pre-trained one."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=by)


def load(checkpoint, **options):
    with torch.random.fork_rng():
        model = trainers.load(checkpoint, **options)
    model.accepts_loss_kwargs = False  # or its loss is multiplied by the accumulation steps (transformers#47688)
    return model


def load_whole(checkpoint, **options):
    """As if the checkpoint held the head as well."""
    model = load(checkpoint, **options)
    mark_loaded(model.classifier.parameters())
    return model


def arguments(output_dir, **overrides):
    options = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "logging_strategy": "no"}
    return trainers.arguments(output_dir, TrainingArguments, **{**options, **overrides})


def without_whole_steps(name):
    """
    An optimizer for runs that agree but for rounding. An Adam makes whole steps of rounding errors where a gradient is zero
    (the keys' bias), unless it divides by more than that.
    """
    if name in ("mofo", "MoFOTrainer"):
        return {"adam_epsilon": 1.0, "learning_rate": 1.0, "max_grad_norm": 0.0}
    return {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}


def make(trainer_class, model, dataset, output_dir, method=None, **overrides):
    return trainer_class(model=model, args=arguments(output_dir, **overrides), train_dataset=dataset, **(method or {}))


def train(trainer_class, model, dataset, output_dir, method=None, **overrides):
    trainer = make(trainer_class, model, dataset, output_dir, method, **overrides)
    trainer.train()
    return trainer


def distance(model, start):
    """How far the pre-trained parameters are from where they started."""
    squares = [(tensor - start[name]).square().sum() for name, tensor in model.state_dict().items() if name not in HEAD]
    return float(torch.stack(squares).sum().sqrt())
