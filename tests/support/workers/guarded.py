"""
Guarded runs that get worse by the step, and differently on each process: `guarded.py FOLDER TRAINER...`, one after the
other. Each process leaves FOLDER/TRAINER/outcome-RANK.pt.
"""

import sys
from pathlib import Path

import torch
import transformers

import ftp_hf
from tests.support import process_groups
from tests.support.models import tiny_bert_config
from tests.support.trainers import arguments


def train(kind, run):
    tokens = torch.randint(5, 50, (16, 8), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": int(row[1] > row[2])} for row in tokens]
    torch.manual_seed(1)
    every_second_step = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    trainer = getattr(ftp_hf, kind, getattr(transformers, kind, None))(
        transformers.BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1)),
        arguments(run, per_device_train_batch_size=2, **every_second_step),
        train_dataset=rows,
        eval_dataset=rows,
    )
    # The second process alone would have nothing to roll back to.
    rank = trainer.args.process_index
    trainer.compute_metrics = lambda _: {"accuracy": 1 - trainer.state.global_step / 10 - 0.3 * rank}
    called = []
    guard = ftp_hf.RobustnessGuard(
        trainer, {"ood/same": rows}, ["ood_mean >= 0.5"], action="roll_back", on_broken=called.append
    )
    trainer.add_callback(guard)
    trainer.train()
    outcome = {
        "restored_step": guard.restored_step,
        "called": bool(called),
        "weights": {name: weight.clone() for name, weight in trainer.model.state_dict().items()},
    }
    torch.save(outcome, run / f"outcome-{rank}.pt")


if __name__ == "__main__":
    folder, *kinds = sys.argv[1:]
    for name in kinds:
        train(name, Path(folder, name))
    process_groups.leave()
