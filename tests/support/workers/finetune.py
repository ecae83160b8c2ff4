"""
Fine-tune the demo's vision transformer on real digits for a few steps, on as many processes as this was launched with,
with DDP or FSDP2, and write what every process ends with to `OUTPUT/rankN.pt`; `then`, fine-tune it again otherwise.

    torchrun --nproc_per_node 2 tests/support/workers/finetune.py --output DDP then --output FSDP2 --fsdp full

Runs with DDP come before those with FSDP2, and those with --bf16 last: Accelerate keeps in the environment what it was
once told.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from digits.data import load_split
from peft import LoraConfig, get_peft_model
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    LlamaForCausalLM,
    PreTrainedModel,
    TrainerCallback,
    set_seed,
)

from ftp_hf import FTPTrainer, FTPTrainingArguments, projected_optimizer
from ftp_hf.projection.sharding import local
from tests.support import fsdp_on_cpu, process_groups
from tests.support.models import tiny_llama_config
from tests.support.trainers import arguments

VIT = Path(__file__).parents[3] / "examples" / "digits" / "vit"


class Collectives(TorchDispatchMode):
    """Records the name of every collective operation that is called while it is active."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if DTensor in types:
            return NotImplemented  # it takes itself apart into the operations that are counted
        if "c10d" in function.namespace and "wait_tensor" not in function.name():
            self.names.append(function.name())
        return function(*args, **(kwargs or {}))


class CountCollectives(TrainerCallback):
    """Counts the collectives of every optimizer step."""

    def __init__(self):
        self.counts = []

    def on_pre_optimizer_step(self, *_, **__):
        self.collectives = Collectives()
        self.collectives.__enter__()

    def on_optimizer_step(self, *_, **__):
        self.collectives.__exit__(None, None, None)
        self.counts.append(len(self.collectives.names))


class RecordingTrainer(FTPTrainer):
    """Records which rows of the data set every training step saw, and what it was told to divide their loss by."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows, self.items = [], []

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.rows.append(inputs.pop("row").tolist())
        self.items.append(int(num_items_in_batch))
        return super().training_step(model, inputs, num_items_in_batch)


def parse_options(flags: list[str]) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--global_batch", type=int, default=40, help="Rows of an optimizer step, of all processes.")
    parser.add_argument("--accumulate", type=int, default=1, help="Batches that every process accumulates.")
    parser.add_argument("--learning_rate", type=float, default=1e-2)
    parser.add_argument("--optim", default="adamw_torch_fused")
    parser.add_argument("--fsdp", choices=["sharded", "full"], help="FSDP2, with this kind of checkpoints.")
    parser.add_argument("--keep_gathered", action="store_true", help="FSDP2 without reshard_after_forward.")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--tied", action="store_true", help="A language model with tied weights instead.")
    parser.add_argument(
        "--lora", action="store_true", help="Adapters of the attention's layers instead of the weights."
    )
    parser.add_argument("--save_steps", type=int)
    parser.add_argument("--resume", help="A checkpoint to go on from.")
    parser.add_argument("--resume_last", dest="resume", action="store_const", const=True, help="The newest whole one.")
    return parser.parse_args(flags)


def split(words: list[str], separator: str) -> list[list[str]]:
    """The words between the separators."""
    bounds = [number for number, word in enumerate(words) if word == separator]
    return [words[start:end] for start, end in zip([0, *(b + 1 for b in bounds)], [*bounds, len(words)], strict=True)]


def training_arguments(options: Namespace) -> FTPTrainingArguments:
    """The arguments of the run, for this number of processes."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    sharding = {}
    if options.fsdp:
        config = {
            "state_dict_type": f"{options.fsdp.upper()}_STATE_DICT",
            "reshard_after_forward": not options.keep_gathered,
            # ViT's own list names the embeddings too, whose parts accelerate 1.15 then shards a second time.
            "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer" if options.tied else "ViTLayer"],
        }
        sharding = {"fsdp": True, "fsdp_config": config}
    return arguments(
        options.output / "trainer",
        max_steps=options.steps,
        per_device_train_batch_size=options.global_batch // (processes * options.accumulate),
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        optim=options.optim,
        remove_unused_columns=False,
        logging_steps=10,
        bf16=options.bf16,
        save_strategy="steps" if options.save_steps else "no",
        save_steps=options.save_steps or 500,
        **sharding,
    )


def expected_type(processes: int, fsdp: str | None) -> DistributedType:
    """How Accelerate should say that the processes train together."""
    if fsdp:
        return DistributedType.FSDP
    return DistributedType.MULTI_CPU if processes > 1 else DistributedType.NO


def digits() -> list[dict[str, torch.Tensor | int]]:
    """The 200 training digits, as the model takes them, with their row numbers."""
    images, labels = load_split("train")
    processor = AutoImageProcessor.from_pretrained(VIT)
    pixels = processor([image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
    return [
        {"pixel_values": p, "labels": label, "row": row}
        for row, (p, label) in enumerate(zip(pixels, labels, strict=True))
    ]


def pretrained() -> PreTrainedModel:
    """
    The demo's model with a new head. The biases of its keys are frozen: they do not change the attention, so that their
    gradients are rounding errors, different ones for every number of processes, which Adam divides by themselves.
    """
    model = AutoModelForImageClassification.from_pretrained(VIT, num_labels=10)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.endswith(".k_proj.bias"))
    return model


def tied() -> tuple[PreTrainedModel, list[dict[str, torch.Tensor | int]]]:
    """A language model whose head is its embedding, and sentences to learn."""
    config = tiny_llama_config(tie_word_embeddings=True, initializer_range=0.2)
    tokens = torch.randint(5, 37, (200, 8))
    return LlamaForCausalLM(config), [{"input_ids": t, "labels": t, "row": row} for row, t in enumerate(tokens)]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def count_a_known_collective() -> list[str]:
    with Collectives() as collectives:
        if dist.is_initialized():
            dist.all_reduce(torch.ones(1))
    return collectives.names


def finetune(options: Namespace) -> None:
    """Train, and write what this process ends with."""
    args = training_arguments(options)
    set_seed(args.seed)
    count = CountCollectives()
    model, dataset = tied() if options.tied else (pretrained(), digits())
    if options.lora:
        lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
        model = get_peft_model(model, lora)
    trainer = RecordingTrainer(model, args, train_dataset=dataset, callbacks=[count])

    launched = int(os.environ.get("WORLD_SIZE", "1"))
    assert trainer.accelerator.num_processes == launched, trainer.accelerator.num_processes
    distributed_type = trainer.accelerator.distributed_type
    assert distributed_type == expected_type(launched, options.fsdp), distributed_type

    trainer.train(resume_from_checkpoint=options.resume)
    assert {isinstance(p, DTensor) for p in trainer.model.parameters()} == {options.fsdp is not None}
    optimizer = projected_optimizer(trainer.optimizer)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "processes": launched,
            "weights": {name: whole(parameter) for name, parameter in trainer.model.named_parameters()},
            "radii": {name: radius.radius for name, radius in optimizer.radii().items()},
            "anchors": {name: whole(anchor) for name, anchor in optimizer.anchors().items()},
            "rows": trainer.rows,
            "items": trainer.items,
            "log": [
                {key: entry[key] for key in ("loss", "grad_norm")}
                for entry in trainer.state.log_history
                if "loss" in entry
            ],
            "collectives_of_steps": count.counts,
            "known_collective": count_a_known_collective(),
            "trained": sum(parameter.requires_grad for parameter in trainer.model.parameters()),
            "state_bytes": sum(
                local(value).nbytes
                for state in optimizer.state.values()
                for value in state.values()
                if isinstance(value, torch.Tensor)
            ),
        },
        options.output / f"rank{trainer.accelerator.process_index}.pt",
    )


if __name__ == "__main__":
    for flags in split(sys.argv[1:], "then"):
        parsed = parse_options(flags)
        if parsed.fsdp:
            fsdp_on_cpu.enable()
        finetune(parsed)
    process_groups.leave()
