"""Loading a Trainer's checkpoint completely, also where its tensors are not those of the model."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule

from ftp_hf.checkpoints.whole import step_of
from ftp_hf.common.host import Host
from ftp_hf.optim.unwrap import projected_optimizer
from ftp_hf.pretrained.loading import load_weights

__all__ = ["CompleteLoadingMixin", "kept_step", "load_best_model"]


class CompleteLoadingMixin(Host):
    """
    `Trainer` resumes, and loads the best model at the end, by the names in the checkpoint. For models whose names
    changed since their first release (ViT among them) most tensors do not match, and `Trainer` only warns: training
    goes on from a model that is half the pre-trained one (transformers#43701, seen in 5.23). So it is where saving splits
    what the model holds in one tensor, such as the experts of a layer. This mixin for any `Trainer` class loads all; and the adapter of a model
    after `add_adapter`, of which `Trainer` looks for the weights of a whole model. A finished run that is resumed takes no step.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # sentence-transformers loads into its own model only.
        load = partial(super()._load_from_checkpoint, resume_from_checkpoint, *([] if model is None else [model]))
        _load_whole(self, self.model if model is None else model, resume_from_checkpoint, load)

    def _load_best_model(self) -> None:
        load_best_model(self, super()._load_best_model)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """As `Trainer.get_batch_samples`, but none once all steps are done."""
        if not self.is_in_train or self.state.global_step < self.state.max_steps:
            return super().get_batch_samples(*args, **kwargs)
        # `Trainer` asks only after a step whether it was the last: resumed, a run that ended within an epoch would take one more.
        self.control.should_training_stop = True
        return [], None


def kept_step(args: Any, state: Any) -> int:
    """
    The step whose weights a finished training keeps. Where the best ones are loaded at the end it is that of the best
    checkpoint, not of the best evaluation (`state.best_global_step`), which may have no checkpoint.
    """
    best = state.best_model_checkpoint if args.load_best_model_at_end else None
    step = None if best is None else step_of(best)
    return state.global_step if step is None else step


def load_best_model(trainer: Any, load: Callable[[], None]) -> None:
    """Load all weights of a Trainer's best checkpoint by its `Trainer._load_best_model`, under an optimizer that may go on."""
    if (projected := projected_optimizer(trainer.optimizer)) is not None:
        projected.release_weights()
    _load_whole(trainer, trainer.model, trainer.state.best_model_checkpoint, load)


def _load_whole(trainer: Any, model: Any, checkpoint: str, load: Callable[[], None]) -> None:
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        _reshard(model)
        load()
    elif getattr(model, "_hf_peft_config_loaded", False):
        _load_injected_adapter(model, checkpoint)
    else:
        load()
        load_weights(model, Path(checkpoint))


def _reshard(model: nn.Module) -> None:
    """After an evaluation FSDP2 leaves the root's parameters gathered, into which no sharded tensor can be loaded."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _load_injected_adapter(model: Any, checkpoint: str) -> None:
    """Of a model after `add_adapter`, which PEFT does not wrap, but whose tensors are saved as if it did."""
    from peft import load_peft_weights, set_peft_model_state_dict  # noqa: PLC0415 - optional, and imported already

    saved = load_peft_weights(checkpoint, device="cpu")
    weights = {name.removeprefix("base_model.model."): tensor for name, tensor in saved.items()}
    result: Any = set_peft_model_state_dict(model, weights, adapter_name=model.active_adapters()[0])
    if unknown := result.unexpected_keys:
        raise ValueError(f"{checkpoint} holds of its adapter what this model does not have: {', '.join(unknown)}")
