"""
Processes that do not fit together, or ask for what cannot be had; what each of them is told goes to OUTPUT/rank{R}.json.

    torchrun --nproc_per_node 2 misfits.py PRETRAINED OTHER OUTPUT
"""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from safetensors.torch import load_file
from transformers import BertForSequenceClassification

from ftp_hf import FTPTrainer
from tests.support import fsdp_on_cpu, process_groups
from tests.support.trainers import arguments

TOKENS = Dataset.from_dict({"input_ids": [[5, 6, 7, 8]] * 16, "labels": [0, 1] * 8})


def train(pretrained, output, *, model=None, poisoned=None, **options):
    """What is said when training ends early; `None` if it does not."""
    args = arguments(output, max_steps=4, per_device_train_batch_size=2, logging_steps=1, **options)
    model = model or BertForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    trainer = PoisonedTrainer(model, args, train_dataset=TOKENS)
    trainer.poisoned = poisoned
    try:
        trainer.train()
    except (FloatingPointError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


class PoisonedTrainer(FTPTrainer):
    """The last process's loss is `poisoned` in the third step."""

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        if self.poisoned and self.state.global_step == 2 and self.args.process_index == self.args.world_size - 1:
            return loss * float(self.poisoned)
        return loss


def otherwise(pretrained, other):
    """A model whose weights are another's, under the name of the first."""
    model = BertForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    model.bert.load_state_dict(load_file(Path(other, "model.safetensors")))
    return model


def main(pretrained, other, output):
    is_last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    run = Path(output, "run")
    said = {
        "fitting": train(pretrained, run, save_strategy="no", ftp_anchors=pretrained),
        "kappa": train(pretrained, run, save_strategy="no", ftp_kappa=0.5 if is_last else 1.0),
        "anchors": train(pretrained, run, save_strategy="no", ftp_anchors=other if is_last else pretrained),
        "weights under DDP": train(
            pretrained, run, save_strategy="no", model=otherwise(pretrained, other) if is_last else None
        ),
        "nan": train(pretrained, run, poisoned="nan", save_strategy="steps", save_steps=1, save_total_limit=1),
        "inf": train(pretrained, run, poisoned="inf", save_strategy="no"),
        "fsdp on the CPU": train(pretrained, run, save_strategy="no", fsdp=True),
    }
    fsdp_on_cpu.enable()
    fsdp = {"save_strategy": "no", "fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": ["BertLayer"]}}
    said |= {
        "fsdp": train(pretrained, run, **fsdp),
        "nan under FSDP2": train(pretrained, run, poisoned="nan", **fsdp),
        "weights under FSDP2": train(pretrained, run, model=otherwise(pretrained, other) if is_last else None, **fsdp),
    }
    # As accelerate launch says it, so that from_pretrained knows.
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    efficient = fsdp["fsdp_config"] | {"cpu_ram_efficient_loading": True}
    said["new head under efficient loading"] = train(pretrained, run, **fsdp | {"fsdp_config": efficient})
    said["checkpoints"] = sorted(path.name for path in run.glob("checkpoint-*"))
    Path(output, f"rank{os.environ['RANK']}.json").write_text(json.dumps(said))
    process_groups.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
