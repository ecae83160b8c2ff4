"""Train by one of the baselines, and save what each process ends with."""

import argparse
from pathlib import Path

import torch
from accelerate import PartialState

from tests.support import baselines

OPTIONS = {
    "L2SPTrainer": {"alpha": 0.5},
    "SPDTrainer": {},
    "TPGMTrainer": {"held_out_dataset": baselines.sentences(20, seed=1), "iterations": 2},
    "LinearProbeTrainer": {},
}

parser = argparse.ArgumentParser()
parser.add_argument("--checkpoint", type=Path)
parser.add_argument("--output", type=Path)
arguments = parser.parse_args()

processes = PartialState(cpu=True).num_processes
for name, options in OPTIONS.items():
    model = baselines.load(arguments.checkpoint, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    trainer = baselines.train(
        getattr(baselines, name),
        model,
        baselines.sentences(40, seed=0),
        arguments.output,
        options,
        per_device_train_batch_size=8 // processes,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
    )
    rank = trainer.args.process_index
    torch.save(baselines.weights(model), arguments.output / f"{name}-{processes}-{rank}.pt")
    del trainer
PartialState().destroy_process_group()
