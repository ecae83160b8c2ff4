"""
How long is a whole training step, forward, backward and optimizer, of a model in bfloat16 weights on made-up data, and what is
the most memory that it takes? Torch's fused AdamW on the same weights beside FTPAdamW, which keeps float32 masters.

    python benchmarks/whole_step.py --models vit_b llama_1b

A batch is 64 images of a ViT-B, and 4 texts of 1,024 tokens of a language model of 1.1 billion parameters; `--batch_size` takes
the place of both. The contestants take turns; each holds a model of its own.
"""

from argparse import Namespace
from typing import Any

import torch
from contestants import CONTESTANTS, LEARNING_RATE, build
from measure import Timed, alternate, cuda_facts, parser, print_table, write
from torch import Tensor
from transformers import PreTrainedModel

TOKENS = 1024
BATCH_SIZES = {"vit_s": 64, "vit_b": 64, "vit_l": 32, "llama_1b": 4}


def made_up_batch(model: PreTrainedModel, size: int, device: str) -> dict[str, Tensor]:
    """Images and classes, or texts."""
    if model.main_input_name == "pixel_values":
        images = torch.randn(
            size, 3, model.config.image_size, model.config.image_size, device=device, dtype=model.dtype
        )
        return {"pixel_values": images, "labels": torch.randint(model.config.num_labels, (size,), device=device)}
    tokens = torch.randint(model.config.vocab_size, (size, TOKENS), device=device)
    return {"input_ids": tokens, "labels": tokens}


class WholeStep:
    """A model and its optimizer."""

    def __init__(self, model: str, contestant: str, size: int, device: str) -> None:
        chosen = CONTESTANTS[contestant]
        self.model = build(model).to(device, chosen.dtype)
        self.optimizer = chosen.optimizer(self.model.named_parameters(), lr=LEARNING_RATE)
        self.batch = made_up_batch(self.model, size, device)
        self.step()

    def step(self) -> None:
        self.model(**self.batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(model: str, arguments: Namespace) -> list[dict[str, Any]]:
    """A row for each contestant, the first of which is what the others are compared with."""
    size = arguments.batch_size or BATCH_SIZES[model]
    torch.manual_seed(arguments.seed)
    training = {name: WholeStep(model, name, size, arguments.device) for name in arguments.contestants}
    timings = alternate(
        {name: Timed(each.step) for name, each in training.items()}, arguments.repetitions, arguments.device
    )
    first = timings[arguments.contestants[0]]["ms"]
    return [
        {
            "model": model,
            "contestant": name,
            "batch_size": size,
            **timings[name],
            "ratio": timings[name]["ms"] / first,
            **cuda_facts(each.step, arguments.device),
        }
        for name, each in training.items()
    ]


def main() -> None:
    options = parser(__doc__, repetitions=10)
    options.add_argument("--models", nargs="+", choices=BATCH_SIZES, default=["vit_b", "llama_1b"], help="which models")
    options.add_argument(
        "--contestants",
        nargs="+",
        choices=CONTESTANTS,
        default=["adamw_bf16_weights", "ftp_bf16_weights"],
        help="the first is what the others are compared with",
    )
    options.add_argument("--batch_size", type=int, help="rows in a batch (default: 64, 32 or 4, by the model)")
    arguments = options.parse_args()
    rows = [row for model in arguments.models for row in measure(model, arguments)]
    columns = ["model", "contestant", "batch_size", "ms", "ratio", "launches", "peak_extra_bytes"]
    print_table("a whole training step", rows, columns)
    write("whole_step", arguments, rows)


if __name__ == "__main__":
    main()
