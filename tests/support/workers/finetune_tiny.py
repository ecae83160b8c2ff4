"""
Fine-tuning runs of a tiny model, and the faults that may befall them:

    finetune_tiny.py MODEL RUN... [--resume] [--fault NAME STEP]

Each RUN is an output folder; the runs happen one after the other, and leave their outcome in RUN/outcome.pt.
"""

import argparse
import io
import os
import resource
import signal
import threading
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from ftp_hf import FTPTrainer, projected_optimizer
from tests.support import process_groups
from tests.support.equal import weights
from tests.support.trainers import arguments, load

OUTCOME = "outcome.pt"


def make_trainer(pretrained, output_dir, trainer_class=FTPTrainer, callbacks=(), model=None, **options):
    """6 steps with dropout, a checkpoint every 2; of a classifier on the pre-trained encoder, or of `model`."""
    tokens = torch.randint(5, 50, (40, 8), generator=torch.Generator().manual_seed(0))
    saves = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    return trainer_class(
        model or load(pretrained),
        arguments(output_dir, **{**saves, **options}),
        train_dataset=[{"input_ids": row, "labels": int(row[1] > row[2])} for row in tokens],
        callbacks=list(callbacks),
    )


def resume(trainer, checkpoint=True):
    """Train on, and return the step that it started from."""
    started = []

    class Beginning(TrainerCallback):
        def on_train_begin(self, _, state, *__, **___):
            started.append(state.global_step)

    trainer.add_callback(Beginning())
    trainer.train(resume_from_checkpoint=checkpoint)
    return started[0]


def outcome(trainer):
    """What must be the same after a fault: weights, radii and anchors."""
    optimizer = projected_optimizer(trainer.optimizer)
    return {
        "weights": weights(trainer.model),
        "radii": {name: tuple(radius) for name, radius in optimizer.radii().items()},
        "anchors": {name: anchor.clone() for name, anchor in optimizer.anchors().items()},
    }


class AtStep(TrainerCallback):
    """Lets the fault happen in the middle of a step: after the backward pass, before the optimizer."""

    def __init__(self, step, fault):
        self.step = step
        self.fault = fault

    def on_pre_optimizer_step(self, args, state, *_, **__):
        if state.global_step == self.step:
            self.fault(args)


def kill_last_process(args):
    if args.process_index == args.world_size - 1:
        os.kill(os.getpid(), signal.SIGKILL)


def terminate(_):
    os.kill(os.getpid(), signal.SIGTERM)
    # transformers waits for some seconds before it reacts, whatever the signal means to a process without its handler.
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.join()


def fill_disk(args):
    """From here on no file of this process may become as large as the optimizer's state."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = max(path.stat().st_size for path in Path(args.output_dir).rglob("optimizer.pt"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))


def wait_for_permission(args):
    """Say that the run is under way, and wait for the test to let it go on."""
    (Path(args.output_dir) / "waiting").touch()
    while not (Path(args.output_dir) / "go").exists():
        time.sleep(0.02)


def kill_in_save(_):
    """The next optimizer state is written by half when the process is killed."""
    save = torch.save

    def save_half(content, path, *args, **kwargs):
        if Path(path).name != "optimizer.pt":
            return save(content, path, *args, **kwargs)
        serialized = io.BytesIO()
        save(content, serialized)
        Path(path).write_bytes(serialized.getvalue()[: serialized.tell() // 2])
        return os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half


FAULTS = {
    fault.__name__: fault for fault in (kill_last_process, terminate, fill_disk, wait_for_permission, kill_in_save)
}


def finetune(flags, run):
    callbacks = [AtStep(int(flags.fault[1]), FAULTS[flags.fault[0]])] if flags.fault else []
    trainer = make_trainer(flags.pretrained, run, callbacks=callbacks, enable_jit_checkpoint=flags.just_in_time)
    trainer.train(resume_from_checkpoint=flags.resume and any(run.glob("checkpoint-*")))
    found = outcome(trainer)
    if trainer.is_world_process_zero():
        torch.save(found, run / OUTCOME)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pretrained", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--just_in_time", action="store_true")
    parser.add_argument("--fault", nargs=2, metavar=("NAME", "STEP"))
    flags = parser.parse_args()
    for run in flags.runs:
        finetune(flags, run)
    process_groups.leave()


if __name__ == "__main__":
    main()
