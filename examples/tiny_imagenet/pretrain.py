"""
Pre-train a small vision transformer on Tiny ImageNet at 32 pixels: 200 classes, 100,000 images, 2.7 M parameters.

    python examples/tiny_imagenet/pretrain.py --output_dir runs/tiny_imagenet

On a GPU with bfloat16 autocast; on CPUs in float32, which is twice as fast there without AMX. Goes on from the last
checkpoint in the output folder. Any `TrainingArguments` flag overrides the recipe below.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from sklearn.metrics import accuracy_score
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import (
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from ftp_hf import CompleteLoadingMixin

SIZE = 32
SHIFT = 4
"""Training images move by up to so many pixels in each direction, with zeros coming in."""


@dataclass
class ScriptArguments:
    """
    Args:
        data (`str`, *optional*): folder with `train.parquet` and `validation.parquet` of 32-pixel images, or the name of
            such a data set on the Hub.
        patch_size (`int`, *optional*, defaults to 8): side of a patch, in pixels. 4 is better and four times as slow.
    """

    data: str = field(default="../shared/data/vision/tiny_imagenet_32", metadata={"help": "The data: folder or name."})
    patch_size: int = field(default=8, metadata={"help": "Side of a patch in pixels. 4: better, four times as slow."})


class Pixels(Dataset):
    """
    The images of a split, decoded once.

    Args:
        data (`str`): as in [`ScriptArguments`].
        split (`str`): `"train"` or `"validation"`.
    """

    def __init__(self, data: str, split: str) -> None:
        rows = load_dataset(data, split=split)
        self.images = torch.stack([torch.from_numpy(np.array(image.convert("RGB"))) for image in rows["image"]])
        self.labels = torch.tensor(rows["label"])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index], self.labels[index]


class Collator:
    """
    Batches of pixel values in [-1, 1], as `ViTImageProcessor` makes them.

    Args:
        augment (`bool`): shift and mirror each image at random.
    """

    def __init__(self, *, augment: bool) -> None:
        self.augment = augment

    def __call__(self, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        images, labels = (torch.stack(column) for column in zip(*rows, strict=True))
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        return {"pixel_values": shift_and_mirror(pixels) if self.augment else pixels, "labels": labels}


def shift_and_mirror(pixels: torch.Tensor) -> torch.Tensor:
    """Move each image of a batch `(batch, channels, SIZE, SIZE)` by up to `SHIFT` pixels, and mirror half of them."""
    batch = torch.arange(len(pixels))[:, None, None]
    rows, columns = torch.randint(0, 2 * SHIFT + 1, (2, len(pixels), 1)) + torch.arange(SIZE)
    mirrored = torch.rand(len(pixels), 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = functional.pad(pixels, (SHIFT,) * 4).permute(0, 2, 3, 1)
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


class PretrainingTrainer(CompleteLoadingMixin, Trainer):
    """`Trainer` that augments the training images only, and resumes with all of the weights of a ViT."""

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        self.data_collator = Collator(augment=True)
        loader = super().get_train_dataloader()
        self.data_collator = Collator(augment=False)
        return loader


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(accuracy_score(prediction.label_ids, prediction.predictions.argmax(-1)))}


def main() -> None:
    parser = HfArgumentParser((ScriptArguments, TrainingArguments))
    on_gpu = torch.cuda.is_available()
    parser.set_defaults(
        num_train_epochs=10,
        per_device_train_batch_size=128,
        per_device_eval_batch_size=512,
        learning_rate=1e-3,
        weight_decay=0.05,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        label_smoothing_factor=0.1,
        warmup_steps=800,
        lr_scheduler_type="cosine",
        bf16=on_gpu,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        logging_steps=100,
        remove_unused_columns=False,
        report_to="none",
        seed=0,
    )
    script, training = parser.parse_args_into_dataclasses()
    set_seed(training.seed)
    words = [line.split("\t")[2].strip() for line in (Path(script.data) / "classes.tsv").read_text().splitlines()]
    model = ViTForImageClassification(
        ViTConfig(
            image_size=SIZE,
            patch_size=script.patch_size,
            hidden_size=192,
            num_hidden_layers=6,
            num_attention_heads=3,
            intermediate_size=768,
            id2label=dict(enumerate(words)),
            label2id={word: index for index, word in enumerate(words)},
        )
    )
    trainer = PretrainingTrainer(
        model=model,
        args=training,
        train_dataset=Pixels(script.data, "train"),
        eval_dataset=Pixels(script.data, "validation"),
        data_collator=Collator(augment=False),
        processing_class=ViTImageProcessor(size={"height": SIZE, "width": SIZE}),
        compute_metrics=accuracy,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(training.output_dir) is not None)
    trainer.save_model()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
