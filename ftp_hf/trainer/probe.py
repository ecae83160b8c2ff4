"""Training that begins with a new head on frozen features (LP-FT: Kumar et al., ICLR 2022, arXiv 2202.10054)."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import DefaultFlowCallback, enable_full_determinism, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType, has_length

from ftp_hf.common.host import Host, optimizer_of
from ftp_hf.common.replaced import replaced
from ftp_hf.pretrained.origin import has_adapters, has_origin, new_parameters
from ftp_hf.pretrained.probing import Probe

from .arguments import FTPArguments

__all__ = ["ProbeFirstMixin", "check_can_probe"]

logger = logging.getLogger(__name__)


class ProbeFirstMixin(Host):
    """
    For any `Trainer` class: the option that the new parameters are fitted before anything else moves. `train()` first
    trains them alone, on the features of the pre-trained model in evaluation mode, for some epochs with a learning rate
    of their own, and then everything as usual, from the same seed. The result is that of two Trainers, a
    [`~ftp_hf.baselines.LinearProbeTrainerMixin`] and this one.

    The probe has the optimizer and the schedule that `args` name, without warm-up, but a linear one instead of a schedule
    whose phases are counted in steps (`num_decay_steps`), which are those of the training; no callback is called, and it is
    neither logged, evaluated nor saved. A run that is resumed, and a second `train()` on the same model, probe no more.

    Args:
        probe_epochs (`float`, *optional*): of the probe; 0 for none. By default what [`FTPArguments`] says, where `args` has
            it, and else 0.
        probe_learning_rate (`float`, *optional*): of the probe, which usually wants a larger one. By default what
            [`FTPArguments`] says, and else that of the training. Both may be tried in a hyperparameter search.

    Raises:
        ValueError: an option is out of range, or a learning rate is given without epochs; the model has no new parameter, or
            the data no length; the model has adapters, or FSDP or DeepSpeed would replace what is frozen.
    """

    probing = False
    """Whether the new parameters alone are trained now."""

    _given_epochs: float | None = None
    _given_learning_rate: float | None = None
    _was_probed = False

    def __init__(
        self,
        *args: Any,
        probe_epochs: float | None = None,
        probe_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._given_epochs, self._given_learning_rate = probe_epochs, probe_learning_rate
        self._head_alone = Probe()
        self._check_probe()

    @property
    def probe_epochs(self) -> float:
        """Of the probe of the next training."""
        return FTPArguments.of(self.args).ftp_probe_epochs if self._given_epochs is None else self._given_epochs

    @property
    def probe_learning_rate(self) -> float | None:
        """Of the probe of the next training; `None` for that of the training."""
        given = self._given_learning_rate
        return FTPArguments.of(self.args).ftp_probe_learning_rate if given is None else given

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `Trainer.train`, after the probe."""
        # What it tries may be of the probe. `Trainer.train` does it again, to the same values (transformers 5.18 to 5.23).
        self._hp_search_setup(trial)
        if resume_from_checkpoint or (self._was_probed and self.model_init is None) or not self._check_probe():
            return super().train(resume_from_checkpoint, trial, *args, **kwargs)
        with self._probe():
            super().train(None, trial, *args, **kwargs)
        self._was_probed = True
        (enable_full_determinism if self.args.full_determinism else set_seed)(self.args.seed)
        with replaced(self, model_init=None):  # which would make another model
            return super().train(None, trial, *args, **kwargs)

    def _check_probe(self) -> bool:
        """Whether there is to be a probe, and there can be one."""
        _check_options(self.probe_epochs, self.probe_learning_rate)
        # Ray's search has taken the model away, and `model_init` makes another.
        if self.probe_epochs and self.model is not None:
            check_can_probe(self)
        return self.probe_epochs > 0

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """The optimizer of the Trainer class, which in a probe is given the new parameters alone."""
        if self.probing:
            # Here, because only now is the model certain that is trained (`model_init`), and DDP has not looked at it yet.
            probed = self.model if model is None else model
            self._head_alone.begin(probed, new_parameters(probed))
        return optimizer_of(self, super().create_optimizer, model)

    def compute_loss(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, Any]:
        """As `Trainer.compute_loss`, in a probe with features of the evaluation mode."""
        if self.probing:
            self._head_alone.set_mode(model)
        return super().compute_loss(model, *args, **kwargs)

    @contextmanager
    def _probe(self) -> Iterator[None]:
        logger.info("The new parameters are trained alone for %g epochs first", self.probe_epochs)
        of_training = {
            "args": _arguments(self.args, self.probe_epochs, self.probe_learning_rate),
            "optimizer": None,
            "optimizer_cls_and_kwargs": None,  # with a learning rate of its own
            "lr_scheduler": None,
            "_created_lr_scheduler": False,
            "hp_search_backend": None,  # whose trial would change these arguments
            "probing": True,
        }
        silent = replaced(self.callback_handler, callbacks=[DefaultFlowCallback()])
        with replaced(self, **of_training), silent, self._head_alone:
            yield
        self.model_wrapped = self.model  # DDP looks again at what is trained


def _arguments(args: Any, epochs: float, learning_rate: float | None) -> Any:
    probing = copy.copy(args)
    vars(probing).update(
        num_train_epochs=epochs,
        max_steps=-1,
        learning_rate=args.learning_rate if learning_rate is None else learning_rate,
        warmup_steps=0,
        **_schedule(args),
        eval_strategy=IntervalStrategy.NO,
        eval_on_start=False,
        logging_strategy=IntervalStrategy.NO,
        save_strategy=SaveStrategy.NO,
        load_best_model_at_end=False,
        push_to_hub=False,
    )
    return probing


def _schedule(args: Any) -> dict[str, Any]:
    counts_steps = any(name.endswith("_steps") for name in args.lr_scheduler_kwargs or {})
    return {"lr_scheduler_type": SchedulerType.LINEAR, "lr_scheduler_kwargs": None} if counts_steps else {}


def _check_options(epochs: float, learning_rate: float | None) -> None:
    if not 0 <= epochs < float("inf"):
        raise ValueError(f"probe_epochs must be finite and not negative, got {epochs!r}; 0 is no probe")
    if learning_rate is not None and not 0 < learning_rate < float("inf"):
        raise ValueError(f"probe_learning_rate must be positive and finite, got {learning_rate!r}")
    if learning_rate is not None and not epochs:
        raise ValueError("probe_learning_rate is given, but there is no probe: set probe_epochs too")


def check_can_probe(trainer: Any) -> None:
    """Raise if the new parameters of a Trainer's model could not be trained alone, for the reasons of [`ProbeFirstMixin`]."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            "probe_epochs: FSDP and DeepSpeed replace the parameters, so that they would stay frozen: probe on one process or "
            "with DDP, save the model, and start from it"
        )
    if trainer.train_dataset is not None and not has_length(trainer.train_dataset):
        raise ValueError(
            "probe_epochs: training data without a length have no epochs: probe with max_steps in a Trainer before"
        )
    if has_adapters(trainer.model):
        raise ValueError(
            "probe_epochs: the model has adapters, which are new as well: probe it before they are added, with "
            "ftp_hf.baselines.LinearProbeTrainerMixin"
        )
    if not has_origin(trainer.model):
        raise ValueError(
            "probe_epochs: nothing tells which parameters of the model are new, because from_pretrained did not make it: probe "
            "it before with ftp_hf.baselines.LinearProbeTrainerMixin, whose new= names them, or leave the option out"
        )
    if not new_parameters(trainer.model):
        raise ValueError(
            "probe_epochs: the model has no new parameter to fit first, because the checkpoint that it was loaded from holds "
            "all of them: leave the option out, or give the model a new head (num_labels=, ignore_mismatched_sizes=True)"
        )
