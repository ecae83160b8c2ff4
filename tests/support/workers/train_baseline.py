"""Train by each of the baselines, and save what each process ends with: `train_baseline.py CHECKPOINT OUTPUT`."""

import sys
from pathlib import Path

import torch

from tests.support import baselines, process_groups
from tests.support.equal import weights

OPTIONS = {
    "L2SPTrainer": {"alpha": 0.5},
    "SPDTrainer": {},
    "TPGMTrainer": {"held_out_dataset": baselines.sentences(20, seed=1), "iterations": 2},
    "EWCTrainer": {"lambda_": 10.0, "samples": 7},
    "LinearProbeTrainer": {},
    "PlainTrainer": {"probe_epochs": 0.5, "probe_learning_rate": 0.1},
    "MoFOTrainer": {"fraction": 0.1},
    "FLOWTrainer": {},
    "KLTrainer": {"lambda_": 2.0},
    "LDIFSTrainer": {"lambda_": 2.0},
}
OLD_HEAD = {"FLOWTrainer", "KLTrainer"}


def train(name, checkpoint, output, processes):
    source = output / "classifier" if name == "EWCTrainer" else checkpoint  # which has a head that is not new
    load = baselines.load_whole if name in OLD_HEAD else baselines.load
    model = load(source, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    trainer = baselines.train(
        getattr(baselines, name),
        model,
        baselines.sentences(40, seed=0),
        output,
        OPTIONS[name],
        per_device_train_batch_size=8 // processes,
        **baselines.without_whole_steps(name),
    )
    assert trainer.args.world_size == processes
    torch.save(weights(model), output / f"{name}-{processes}-{trainer.args.process_index}.pt")


if __name__ == "__main__":
    for baseline in OPTIONS:
        train(baseline, *map(Path, sys.argv[1:]), processes=2)
    process_groups.leave()
