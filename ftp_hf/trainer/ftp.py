"""The Trainer that projects: a mixin for any `Trainer` class, and that mixin on `Trainer` itself."""

import logging
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import Trainer

from ftp_hf.adapters.options import model_options
from ftp_hf.checkpoints.whole import has_optimizer_state
from ftp_hf.common.processes import from_first_process
from ftp_hf.optim.base import projected_optimizer
from ftp_hf.optim.checks import check_steps_after_backward
from ftp_hf.optim.radii import Radius
from ftp_hf.optim.wrapper import FTP
from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.origin import is_fine_tuned, local_checkpoint, new_parameters

from .arguments import FTPArguments
from .card import ModelCardMixin
from .loading import CompleteLoadingMixin
from .outside import parameters_outside
from .radius_log import check_finite, summarize
from .saving import CompleteSavingMixin
from .strategy import check_agreement, check_loaded, check_strategy

__all__ = ["FTPTrainer", "FTPTrainerMixin"]

logger = logging.getLogger(__name__)


class FTPTrainerMixin(ModelCardMixin, CompleteSavingMixin, CompleteLoadingMixin):
    """
    Projects whatever optimizer the `Trainer` class it is mixed into creates: `class FTPSFTTrainer(FTPTrainerMixin,
    SFTTrainer)`. The options are those of [`FTPArguments`] where `args` has them, and their defaults where not.

    Parameters that the model's checkpoint does not hold (a new classification head) are found, logged by name and left
    to the plain optimizer. The anchors are the weights that training starts from. A resumed run takes them from the
    checkpoint's optimizer state; where it has none (`save_only_model=True`), from the pre-trained checkpoint that
    `ftp_anchors` or the model's config names. `create_model_card` and `push_to_hub` tell what happened
    ([`ModelCardMixin`]).
    """

    _resume_anchors: Path | None = None

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """
        The optimizer of the Trainer class with [`FTP`] around it, unless it already projects.

        Raises:
            ValueError: no parameter is left to project; the optimizer already projects, but `ftp_*` options are set, or
                it steps during backward; as [`check_strategy`], [`check_loaded`], [`check_agreement`] and [`FTP`].
        """
        self._check_supported()
        optimizer = super().create_optimizer(model)
        projected = projected_optimizer(optimizer)
        if projected is None:
            self.optimizer = projected = self._with_projection(optimizer, self.model if model is None else model)
        elif FTPArguments.of(self.args) != FTPArguments():
            raise ValueError(
                "the optimizer that you passed already projects, so the ftp_* options would be ignored: set its own "
                "options, or pass a plain optimizer, which FTPTrainer projects as the ftp_* options say"
            )
        elif self._resume_anchors is not None and projected.external_anchors is None and not projected.anchors():
            raise ValueError(
                "the checkpoint to resume from holds no optimizer state, so the optimizer that you passed would take "
                f"the fine-tuned weights for anchors: build it with anchors={str(self._resume_anchors)!r}"
            )
        compare_weights = self.is_fsdp_enabled and not self.accelerator.state.fsdp_plugin.cpu_ram_efficient_loading
        check_agreement(projected, compare_weights=compare_weights)
        return self.optimizer

    def _check_supported(self) -> None:
        check_strategy(self.accelerator)
        check_loaded(self.model)
        check_steps_after_backward(self.args.optim)

    def _with_projection(self, optimizer: Optimizer, model: nn.Module) -> FTP:
        options = FTPArguments.of(self.args)
        source = self._resume_anchors if options.ftp_anchors is None else local_checkpoint(options.ftp_anchors)
        checkpoint = None if source is None else CheckpointAnchors(source, model)
        if checkpoint is None:
            _warn_of_fine_tuned(model)
        given = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter in given}
        # Where only the first process reads the checkpoint (FSDP2's cpu_ram_efficient_loading), only it can tell.
        new = from_first_process(new_parameters(model, checkpoint)) if options.ftp_exclude_new else set()
        outside = {name: p for name, p in parameters_outside(self, model).items() if p in given}
        trained |= outside
        new |= outside.keys()
        of_model = model_options(model, trained, new, options.ftp_adapters, checkpoint)
        projected = FTP(
            optimizer,
            trained.items(),
            kappa=options.ftp_kappa,
            radius_lr=options.ftp_radius_lr,
            radius_betas=(options.ftp_radius_beta1, options.ftp_radius_beta2),
            anchor_device=options.ftp_anchor_device,
            **of_model | {"exclude": [*of_model["exclude"], *(options.ftp_exclude or [])]},
        )
        if not projected.projected_parameters() and not projected.low_rank_updates:
            raise ValueError(
                "no parameter is left to project: all trained parameters are new, excluded, or of an adapter whose update "
                "is not projected. Check ftp_exclude, set ftp_exclude_new=False (for new parameters) or "
                "ftp_adapters='factors' (for those of an adapter) to project them around their initial values, or use the "
                "plain Trainer"
            )
        return projected

    def _prepare_resume(self, checkpoint: Path | None) -> None:
        super()._prepare_resume(checkpoint)
        self._resume_anchors = self._find_resume_anchors(checkpoint)

    def _find_resume_anchors(self, checkpoint: Path | None) -> Path | None:
        if checkpoint is None or has_optimizer_state(checkpoint):
            return None
        source = FTPArguments.of(self.args).ftp_anchors
        if source is None:
            source = getattr(self.model, "name_or_path", "")
            if not source or is_fine_tuned(Path(source)):
                raise ValueError(
                    f"resume_from_checkpoint={str(checkpoint)!r} holds no optimizer state, so the anchors have to come "
                    f"from the pre-trained checkpoint, but the model was loaded from {source!r}. Name the pre-trained "
                    "model in ftp_anchors, or resume from a checkpoint saved with save_only_model=False"
                )
        logger.info("No optimizer state in %s: the anchors are read from %s", checkpoint, source)
        return local_checkpoint(source)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """
        As `Trainer.log`, with the radii in each training log.

        Raises:
            FloatingPointError: the weights are not finite any more; nor is a checkpoint saved then.
        """
        if "loss" in logs and (radii := self._radii_of_finite_weights()):
            logs.update(summarize(radii, each=FTPArguments.of(self.args).ftp_log_parameters))
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._note_saved_radii(self._radii_of_finite_weights())
        super()._save_checkpoint(model, trial)

    def _radii_of_finite_weights(self) -> dict[str, Radius]:
        projected = projected_optimizer(self.optimizer)
        radii = {} if projected is None else projected.radii()
        check_finite(radii, self.state.global_step)
        return radii


def _warn_of_fine_tuned(model: nn.Module) -> None:
    origin = getattr(model, "name_or_path", "")
    if origin and is_fine_tuned(Path(origin)):
        logger.warning(
            "The anchors are the weights of %s, which a Trainer wrote: they are fine-tuned, not pre-trained ones. "
            "Name the pre-trained model in ftp_anchors if that is not what you mean.",
            origin,
        )


class FTPTrainer(FTPTrainerMixin, Trainer):
    """
    `Trainer` with Fast Trainable Projection around its optimizer. Takes the arguments of `Trainer`; with
    [`FTPTrainingArguments`] the projection has options.

    Example:
        ```python
        trainer = FTPTrainer(model=model, args=FTPTrainingArguments("runs/ftp", ftp_kappa=0.5), train_dataset=dataset)
        ```
    """
