"""EWC under a `Trainer`: where its Fisher information comes from, and how a run resumes."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ._anchored import AnchoredTrainerMixin, check_not_negative, check_positive, new_among_trained
from ._data import as_collated
from .ewc import attach_ewc, check_fisher
from .fisher import check_answers_classes, fisher_diagonal

__all__ = ["EWCTrainerMixin"]

_STATE = "ewc.pt"


class EWCTrainerMixin(AnchoredTrainerMixin):
    """
    For any `Trainer` class: fine-tuning with the penalty of EWC around the weights that the Trainer is constructed with.

    By default F is that of the pre-trained model's own answers to rows of the training data: answers are sampled, and the
    labels only say which of them count. With data of an earlier task it is the paper's. It is computed once, before the first
    step, and is in each checkpoint (`ewc.pt`, 4 bytes a parameter), so that a run resumes bit for bit.

    The factors of LoRA are held at their first values. Where B is 0 then, F is 0 in A, which the penalty so leaves free.

    Args:
        lambda_ (`float`, *optional*, defaults to 1e3): λ. F, of one answer, is small and λ accordingly large. No value is
            known to serve all: its mean was 4e-3 for Whisper tiny, which 1e3 already held, and 3e-5 for SmolLM2 135M.
            Serrà et al. (ICML 2018) search 500 to 50,000.
        samples (`int`, *optional*, defaults to 256): rows that F is computed from; of fewer, all.
        fisher_dataset (`Dataset`, *optional*): what they are drawn from, of known length: data of an earlier task, in the
            form of the training data. By default the training data.
        fisher (mapping from `str` to `Tensor`, *optional*): F itself, from [`fisher_diagonal`] on another model, such as the
            one that had the earlier task's head. Parameters that it does not name have no penalty.
        new: as for [`AnchoredTrainerMixin`].

    Raises:
        ValueError: an option is out of range; a part of the model is new and there is no `fisher`, as what a random head
            answers says nothing; `fp16=True`, where gradients would underflow; `args.weight_decay` is not 0; answers that
            are no classes; resuming from a checkpoint without F; as [`AnchoredTrainerMixin`].
    """

    method_name = "ewc"

    fisher: dict[str, Tensor]

    def __init__(
        self,
        *args: Any,
        lambda_: float = 1e3,
        samples: int = 256,
        fisher_dataset: Any = None,
        fisher: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        check_not_negative("lambda_", lambda_)
        check_positive("samples", samples)
        super().__init__(*args, **kwargs)
        self.lambda_, self.samples = lambda_, samples
        self.fisher_dataset = self.train_dataset if fisher_dataset is None else fisher_dataset
        self.fisher = dict(fisher or {})
        if fisher is None and lambda_:
            self._check_answers()
        parameters = dict(self.model.named_parameters())
        check_fisher(self.fisher, parameters)
        if fisher is not None and not self.fisher.keys() & self.anchors.keys():
            raise ValueError(
                f"fisher names no pre-trained parameter that is trained, such as {next(iter(self.anchors))!r}"
            )

    def _without_anchor(self, new: Collection[str]) -> set[str]:
        return new_among_trained(self.model, new)

    def _check_answers(self) -> None:
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        if new := trained - self.anchors.keys():
            raise ValueError(
                f"{min(new)} is new, and what a model with a random head answers says nothing of its weights: give fisher=, "
                "the fisher_diagonal of the model with the head that it had before, on data of that task; or probe the head "
                "first, save the model, and fine-tune it from there"
            )
        check_answers_classes(self.model)
        if self.args.fp16:
            raise ValueError("fp16=True: the gradients that F is made of would underflow. Use bf16=True, or float32")
        if not hasattr(self.fisher_dataset, "__len__"):
            raise ValueError("EWC draws rows of data of known length: give some as fisher_dataset=")

    def _attach(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
        if self.lambda_:
            # Here the weights may be those of a checkpoint to resume from; before the first step they are at their start,
            # and of a checkpoint F was loaded.
            optimizer.register_step_pre_hook(lambda *_: self._compute_once())
        attach_ewc(optimizer, parameters, self.anchors, self.fisher, lambda_=self.lambda_)

    def _compute_once(self) -> None:
        if not self.fisher:
            with self.compute_loss_context_manager():
                fisher = fisher_diagonal(self.model, self._rows(), self.anchors.keys(), seed=self.args.seed)
            check_fisher(fisher, self.anchors)
            self.fisher.update(fisher)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not self.lambda_ or self.fisher:
            return
        if not (file := Path(checkpoint) / _STATE).is_file():
            raise ValueError(
                f"{checkpoint} holds no {_STATE}, and so no Fisher information to go on with: resume from a checkpoint that "
                "this Trainer saved with save_only_model=False, or give fisher="
            )
        devices = {name: parameter.device for name, parameter in self.model.named_parameters()}
        self.fisher.update({name: f.to(devices[name]) for name, f in torch.load(file, weights_only=True).items()})

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and self.fisher:
            torch.save(self.fisher, Path(output_dir) / _STATE)

    def _rows(self) -> Iterator[Any]:
        data, collate = as_collated(self, self.fisher_dataset, "Fisher")
        drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.args.seed))[: self.samples]
        # With a generator of its own, the loader leaves alone the random numbers that the training draws.
        loader = DataLoader(
            data, batch_sampler=[[row] for row in drawn.tolist()], collate_fn=collate, generator=torch.Generator()
        )
        return (self._prepare_inputs(batch) for batch in loader)
