"""
Guarded runs that get worse by the step, and differently on each process: `guarded.py FOLDER RUN...`, one after the other.
Each process leaves FOLDER/RUN/outcome-RANK.pt.

RUN is TRAINER-ACTION, or TRAINER-ACTION-fsdp with FSDP2. Those come last: Accelerate keeps in the environment what it was
once told. With the action `stop` the Trainer ends with its best weights.
"""

import sys
from pathlib import Path

import torch
import transformers
from torch.distributed.tensor import DTensor

import ftp_hf
from ftp_hf.projection.sharding import whole_tensors
from tests.support import fsdp_on_cpu, process_groups
from tests.support.models import tiny_bert_config
from tests.support.trainers import arguments

EVERY_SECOND_STEP = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
FSDP = {"use_cpu": False, "fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": ["BertLayer"]}}


def train(run, kind, action, sharded):
    tokens = torch.randint(5, 50, (16, 8), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": int(row[1] > row[2])} for row in tokens]
    torch.manual_seed(1)
    options = EVERY_SECOND_STEP | (BEST if action == "stop" else {}) | (FSDP if sharded else {})
    trainer = getattr(ftp_hf, kind, getattr(transformers, kind, None))(
        transformers.BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1)),
        arguments(run, per_device_train_batch_size=2, **options),
        train_dataset=rows,
        eval_dataset=rows,
    )
    # The second process alone would have nothing to roll back to.
    rank = trainer.args.process_index
    trainer.compute_metrics = lambda _: {"accuracy": 1 - trainer.state.global_step / 10 - 0.3 * rank}
    called = []
    guard = ftp_hf.RobustnessGuard(
        trainer, {"ood/same": rows}, ["ood_mean >= 0.5"], action=action, on_broken=called.append
    )
    trainer.add_callback(guard)
    trainer.train()
    names, parameters = zip(*trainer.model.named_parameters(), strict=True)
    assert {isinstance(parameter, DTensor) for parameter in parameters} == {sharded}
    outcome = {
        "restored_step": guard.restored_step,
        "called": bool(called),
        "weights": {
            name: weight.detach().clone() for name, weight in zip(names, whole_tensors(parameters), strict=True)
        },
        "loss": trainer.evaluate()["eval_loss"],
    }
    torch.save(outcome, run / f"outcome-{rank}.pt")


if __name__ == "__main__":
    folder, *runs = sys.argv[1:]
    for name in runs:
        trainer_class, what, *how = name.split("-")
        if how:
            fsdp_on_cpu.enable()
        train(Path(folder, name), trainer_class, what, bool(how))
    process_groups.leave()
