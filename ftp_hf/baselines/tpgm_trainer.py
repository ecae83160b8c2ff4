"""TPGM under a `Trainer`: where its held-out batches come from, and how a run resumes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ftp_hf.pretrained.rows import parameter_rows

from ._anchored import AnchoredTrainerMixin, check_positive
from ._data import as_collated
from .tpgm import TPGM, Inputs

__all__ = ["TPGMTrainerMixin", "held_out_rows"]

_STATE = "tpgm.pt"


def held_out_rows(number: int, size: int, count: int, seed: int) -> list[int]:
    """
    The `count` rows of batch `number`, counted from 0, in endless passes over a data set of `size` rows, which is shuffled
    again for each pass. It depends on nothing but the arguments, so a resumed run goes on with the batches that it would have
    had. The last batch of a pass is filled up with its first rows, so that all batches weigh the same.
    """
    epoch, position = divmod(number, -(-size // count))
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed + epoch))
    return order[torch.arange(position * count, (position + 1) * count) % size].tolist()


class TPGMTrainerMixin(AnchoredTrainerMixin):
    """
    For any `Trainer` class: [`TPGM`] after the steps of its optimizer. A held-out batch is as large as a training batch
    (accumulated, over all processes) and goes through the model in parts of the per-device size; its loss is that of
    `compute_loss`, in the precision of the training. The defaults are those of the authors' code for training with
    projection, which the paper runs at every iteration.

    The radii and their Adam are in each checkpoint (`tpgm.pt`), the anchors are the weights that the Trainer is
    constructed with, and the held-out batches follow from the number of the step: a run resumes bit for bit.

    Args:
        held_out_dataset (`Dataset`): in-distribution data that is not trained on, of known length; the authors take the
            validation set.
        radius_lr (`float`, *optional*, defaults to 1e-2): learning rate of the radii.
        iterations (`int`, *optional*, defaults to 1): held-out batches each time that radii are learned.
        interval (`int`, *optional*, defaults to 1): radii are learned every `interval` steps, from the first on, and the
            weights are projected at every step.
        new: as for [`AnchoredTrainerMixin`].

    Raises:
        ValueError: an option is out of range, the held-out data is empty; `fp16=True`, where the gradients of the radii
            would underflow; resuming from a checkpoint without radii; as [`AnchoredTrainerMixin`] and [`TPGM`].
    """

    method_name = "tpgm"

    tpgm: TPGM
    _held_out: Any
    _collate: Any

    def __init__(
        self,
        *args: Any,
        held_out_dataset: Any,
        radius_lr: float = 1e-2,
        iterations: int = 1,
        interval: int = 1,
        **kwargs: Any,
    ) -> None:
        for name, value in {"radius_lr": radius_lr, "iterations": iterations, "interval": interval}.items():
            check_positive(name, value)
        if not len(held_out_dataset):
            raise ValueError("held_out_dataset is empty: TPGM learns its radii on it")
        super().__init__(*args, **kwargs)
        if self.args.fp16:
            raise ValueError(
                "fp16=True: TPGM's radii would lose their gradients to underflow. Use bf16=True, or float32"
            )
        self.held_out_dataset = held_out_dataset
        self.radius_lr, self.iterations, self.interval = radius_lr, iterations, interval

    def _attach(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
        self.tpgm = TPGM(
            self.model,
            parameters.keys() & self.anchors.keys(),
            self.radius_lr,
            loss=lambda model, inputs: cast("Tensor", self.compute_loss(model, dict(inputs))),
            anchors=self.anchors,
            rows=parameter_rows(self.model),
        )
        self._held_out, self._collate = as_collated(self, self.held_out_dataset, "held-out")
        optimizer.register_step_post_hook(lambda *_: self.tpgm.update(self._held_out_batches()))

    def _held_out_batches(self) -> Iterator[list[Inputs]]:
        turn, rest = divmod(self.state.global_step, self.interval)
        if rest:
            return
        args, size = self.args, self.args.train_batch_size
        count = size * args.gradient_accumulation_steps * args.world_size
        seed = args.seed if args.data_seed is None else args.data_seed
        for number in range(turn * self.iterations, (turn + 1) * self.iterations):
            mine = held_out_rows(number, len(self._held_out), count, seed)[args.process_index :: args.world_size]
            parts = [mine[start : start + size] for start in range(0, len(mine), size)]
            # With a generator of its own, the loader leaves alone the random numbers that the training draws.
            loader = DataLoader(
                self._held_out, batch_sampler=parts, collate_fn=self._collate, generator=torch.Generator()
            )
            yield [self._prepare_inputs(part) for part in loader]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            torch.save(self.tpgm.state_dict(), Path(output_dir) / _STATE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        if not (Path(checkpoint) / _STATE).is_file():
            raise ValueError(
                f"{checkpoint} holds no {_STATE}, and so no radii to go on from: resume from a checkpoint that this Trainer "
                "saved with save_only_model=False"
            )
        self.tpgm.load_state_dict(torch.load(Path(checkpoint) / _STATE, weights_only=True))
