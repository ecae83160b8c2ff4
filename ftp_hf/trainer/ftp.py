"""The Trainer that projects: a mixin for any `Trainer` class, and that mixin on `Trainer` itself."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer

from ftp_hf.adapters.find import trains_adapters_alone
from ftp_hf.adapters.options import model_options
from ftp_hf.checkpoints.whole import has_optimizer_state
from ftp_hf.common.host import check_steps_after_backward, optimizer_of
from ftp_hf.common.names import canonical_name
from ftp_hf.common.processes import from_first_process
from ftp_hf.common.replaced import replaced
from ftp_hf.optim.base import ProjectedOptimizer
from ftp_hf.optim.radii import Radius
from ftp_hf.optim.unwrap import projected_optimizer
from ftp_hf.optim.wrapper import FTP
from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.growing import forget_growth, grown_rows
from ftp_hf.pretrained.origin import (
    UnknownOriginError,
    has_origin,
    is_fine_tuned,
    local_checkpoint,
    new_parameters,
    pretrained_rows,
)

from .arguments import PREVIOUS, FTPArguments, named_anchors
from .in_force import OptionsInForce, asked_of_groups, excluded_names, saved_pretrained_rows
from .notices import check_not_halved, check_projects, check_something_is_left, warn_of_fine_tuned
from .outside import parameters_outside
from .plain import PlainTrainerMixin
from .radius_log import check_finite, check_weights, summarize
from .stages import go_on, load_last_stage, saved_stage
from .statistics import warn_of_drift
from .strategy import check_agreement, check_loaded, check_strategy

__all__ = ["FTPTrainer", "FTPTrainerMixin", "ftp_trainer"]

logger = logging.getLogger(__name__)

_SET_BY_OPTIMIZER = (
    *("ftp_kappa", "ftp_radius_lr", "ftp_radius_share", "ftp_radius_beta1", "ftp_radius_beta2"),
    *("ftp_anchor_device", "ftp_stochastic_rounding"),
)
_BY_NAME = ("exclude", "transposed", "rows", "pretrained_rows", "anchors", "low_rank")
"""The options of an optimizer that projects which go by names."""


class FTPTrainerMixin(PlainTrainerMixin):
    """
    Projects whatever optimizer the `Trainer` class it is mixed into creates: `class FTPSFTTrainer(FTPTrainerMixin,
    SFTTrainer)`. The options are those of [`FTPArguments`] where `args` has them, and their defaults where not.

    Parameters that the model's checkpoint does not hold (a new classification head) are found, logged by name and left
    to the plain optimizer, and so are the new rows of resized embeddings. The anchors are the weights that training
    starts from. A resumed run takes them from the checkpoint's optimizer state; where it has none
    (`save_only_model=True`), from the pre-trained checkpoint that `ftp_anchors` or the model's config names. A second
    `train()` of the same trainer goes on with its anchors and radii, unless `ftp_anchors` and `ftp_restart_radii` say
    otherwise; κ and the radii's learning rate or share and betas may change in between, what is projected may not.
    `create_model_card` and `push_to_hub` say what happened ([`ModelCardMixin`]).
    """

    _resume_anchors: Path | None = None
    _resume_rows: Mapping[str, int] = MappingProxyType({})
    _projecting: ProjectedOptimizer | None = None
    _options: FTPArguments | None = None
    _given_optimizer: bool = False
    _left_by_stage: bool = False
    _resumes: bool = False
    options_in_force: OptionsInForce | None = None
    """What was asked of the optimizer, and what was in force before the run was resumed with other options."""

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """
        The optimizer of the Trainer class with [`FTP`] around it, unless it already projects.

        Raises:
            ValueError: no parameter is left to project; the optimizer already projects, but `ftp_*` options are set, or
                it steps during backward; as [`check_strategy`], [`check_loaded`], [`check_agreement`] and [`FTP`].
        """
        self._check_supported()
        if self.probing:
            return optimizer_of(self, super().create_optimizer, model)
        own = self._projecting
        optimizer, by_name = self._create_optimizer(model)
        projected, options = projected_optimizer(optimizer), FTPArguments.of(self.args)
        model = self.model if model is None else model
        if projected is None:
            self.optimizer = projected = self._with_projection(optimizer, model)
            self.options_in_force = OptionsInForce.of(projected, options)
            self._go_on_with_saved(projected, options)
        elif projected is own:
            self._go_on_with(own, options)
        else:
            self._check_given(projected, options)
            self.options_in_force = OptionsInForce.of(
                projected, options, exclude=[*_excluded(projected), *by_name.get("exclude", ())]
            )
            self._complete(projected, model, by_name)
        self._projecting, self._options = projected, options
        if own is None and not self.freeze_statistics:
            warn_of_drift(model)
        compare_weights = self.is_fsdp_enabled and not self.accelerator.state.fsdp_plugin.cpu_ram_efficient_loading
        check_agreement(projected, compare_weights=compare_weights)
        return self.optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `Trainer.training_step`, where something projects, or else [`check_projects`] raises."""
        if not self.probing:
            check_projects(self)
        return super().training_step(*args, **kwargs)

    def _create_optimizer(self, model: Any) -> tuple[Optimizer, dict[str, Any]]:
        """The optimizer of the Trainer class, and those options of one that projects which go by names."""
        made: Any = self.optimizer
        self._given_optimizer |= made is not None and self._projecting is None
        kind, arguments = self.optimizer_cls_and_kwargs or (None, {})
        if made is not None or not (isinstance(kind, type) and issubclass(kind, ProjectedOptimizer)):
            return optimizer_of(self, super().create_optimizer, model), {}
        # The Trainer's groups have no names.
        by_name = {option: arguments[option] for option in _BY_NAME if option in arguments}
        others = {name: arguments[name] for name in arguments.keys() - by_name}
        with replaced(self, optimizer_cls_and_kwargs=(kind, others)):
            return optimizer_of(self, super().create_optimizer, model), by_name

    def _check_supported(self) -> None:
        check_strategy(self.accelerator)
        check_loaded(self.model)
        check_steps_after_backward(self.args.optim)

    def _go_on_with(self, projected: ProjectedOptimizer, options: FTPArguments) -> None:
        """The optimizer is that of an earlier `create_optimizer`: it keeps its anchors and radii."""
        check_not_halved(projected, self.model)
        if self.options_in_force is not None and self._options is not None:
            self.options_in_force.change(projected, self._options, options)
        if self._resume_anchors is not None and projected.external_anchors is None and not projected.anchors():
            self._complete(projected, self.model, {})

    def _go_on_with_saved(self, projected: ProjectedOptimizer, options: FTPArguments) -> None:
        """The model is that of an earlier stage, whose anchors and radii this one goes on with."""
        stage = None if self._resumes else saved_stage(self.model, options)
        if stage is not None and self.options_in_force is not None:
            excluded = excluded_names(projected)
            load_last_stage(projected, stage)
            self.options_in_force.resume(projected, stage, 0, excluded)
            go_on(projected, self.model, options)
        forget_growth(self.model)

    def _begin_stage(self) -> None:
        """A training that does not resume, after another one of this trainer."""
        own, options = self._projecting, FTPArguments.of(self.args)
        if own is None or self.model_init is not None or not own.has_stepped:
            return  # with model_init each training has a model and an optimizer of its own
        if options.ftp_anchors != PREVIOUS:
            go_on(own, self.model, options)
            forget_growth(self.model)
        elif self._given_optimizer:
            raise ValueError(
                f"ftp_anchors={PREVIOUS!r}: each stage has an optimizer of its own, and this trainer was given one: pass its "
                "class in optimizer_cls_and_kwargs, or take a new trainer for each stage"
            )
        else:
            self.optimizer, self._projecting, self._left_by_stage = None, None, True  # type: ignore[assignment]

    def _check_given(self, projected: ProjectedOptimizer, options: FTPArguments) -> None:
        usual = FTPArguments()
        ignored = [name for name in _SET_BY_OPTIMIZER if getattr(options, name) != getattr(usual, name)]
        if ignored:
            raise ValueError(
                f"the optimizer that you passed already projects, so these options would be ignored: {', '.join(ignored)}. "
                "Set its own options, or pass a plain optimizer, which FTPTrainer projects as the ftp_* options say"
            )
        if self._resume_anchors is not None and projected.external_anchors is None and not projected.anchors():
            raise ValueError(
                "the checkpoint to resume from holds no optimizer state, so the optimizer that you passed would take "
                f"the fine-tuned weights for anchors: build it with anchors={str(self._resume_anchors)!r}"
            )

    def _complete(self, projected: ProjectedOptimizer, model: nn.Module, by_name: dict[str, Any]) -> None:
        """Fill in what a projecting optimizer does not know of the model."""
        if projected.radii():
            return  # it is in the middle of a run
        options = FTPArguments.of(self.args)
        try:
            of_model, trained = self._model_options(projected, model, options)
        except UnknownOriginError as reason:
            logger.warning("All parameters that the optimizer does not exclude are projected: %s", reason)
            of_model, trained = self._model_options(projected, model, replace(options, ftp_exclude_new=False))
        projected.fill_in(
            trained,
            unprojected=[trained[name] for name in of_model["exclude"]],
            row_dims={trained[name]: dims for name, dims in of_model["rows"].items()},
            first_rows={trained[name]: count for name, count in of_model["pretrained_rows"].items()},
            exclude=[*by_name.get("exclude", ()), *(options.ftp_exclude or ())],
            transposed=by_name.get("transposed", ()),
            rows=by_name.get("rows", {}),
            pretrained_rows=by_name.get("pretrained_rows", {}),
            anchors=by_name.get("anchors", of_model["anchors"]),
            low_rank=by_name.get("low_rank", of_model["low_rank"]),
        )
        check_something_is_left(projected, model)

    def _model_options(
        self, optimizer: Optimizer, model: nn.Module, options: FTPArguments
    ) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """The options that follow from the model for the optimizer's parameters, and these by name."""
        named = named_anchors(options.ftp_anchors)
        source = self._resume_anchors if named is None else local_checkpoint(named)
        checkpoint = None if source is None else CheckpointAnchors(source, model)
        if checkpoint is None and options.ftp_anchors is None:
            warn_of_fine_tuned(model)
        # Where the user or PEFT says what is new in a model of unknown origin, no warning is needed.
        is_named = bool(options.ftp_exclude or _excluded(optimizer)) or trains_adapters_alone(model)
        asks = options.ftp_exclude_new and (checkpoint is not None or has_origin(model) or not is_named)
        given = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter in given}
        new = new_parameters(model, checkpoint) if asks else set()
        # A checkpoint has no anchors for new rows.
        resized = pretrained_rows(model, checkpoint) if options.ftp_exclude_new or checkpoint is not None else {}
        # Where only the first process reads the checkpoint (FSDP2's cpu_ram_efficient_loading), only it knows.
        new, resized = (set(), grown_rows(model)) if self._left_by_stage else from_first_process((new, resized))
        outside = {name: p for name, p in parameters_outside(self, model).items() if p in given}
        trained |= outside
        new |= outside.keys()
        found = model_options(model, trained, new, resized, options.ftp_adapters, checkpoint)
        names = {canonical_name(name): name for name in trained}
        found["pretrained_rows"] |= {names[name]: n for name, n in self._resume_rows.items() if name in names}
        return found, trained

    def _with_projection(self, optimizer: Optimizer, model: nn.Module) -> FTP:
        options = FTPArguments.of(self.args)
        of_model, trained = self._model_options(optimizer, model, options)
        projected = FTP(
            optimizer,
            trained.items(),
            **asked_of_groups(options),
            anchor_device=options.ftp_anchor_device,
            stochastic_rounding=options.ftp_stochastic_rounding,
            **of_model | {"exclude": [*of_model["exclude"], *(options.ftp_exclude or [])]},
        )
        check_something_is_left(projected, model)
        return projected

    def _prepare_resume(self, checkpoint: Path | None) -> None:
        super()._prepare_resume(checkpoint)
        if checkpoint is not None and self._projecting is not None:
            self._projecting.release_weights()
        elif checkpoint is None:
            self._begin_stage()
        self._resumes = checkpoint is not None
        self._resume_anchors = self._find_resume_anchors(checkpoint)
        known = checkpoint or saved_stage(self.model, FTPArguments.of(self.args))
        self._resume_rows = {} if known is None else saved_pretrained_rows(known)

    def _find_resume_anchors(self, checkpoint: Path | None) -> Path | None:
        if checkpoint is None or has_optimizer_state(checkpoint):
            return None
        asked = FTPArguments.of(self.args).ftp_anchors
        source = named_anchors(asked)
        if source is None:
            source = getattr(self.model, "name_or_path", "")
            if not source or (asked != PREVIOUS and is_fine_tuned(Path(source))):
                raise ValueError(
                    f"resume_from_checkpoint={str(checkpoint)!r} holds no optimizer state, so the anchors have to come "
                    f"from the pre-trained checkpoint, but the model was loaded from {source!r}. Name the pre-trained "
                    "model in ftp_anchors, or resume from a checkpoint saved with save_only_model=False"
                )
        logger.info("No optimizer state in %s: the anchors are read from %s", checkpoint, source)
        return local_checkpoint(source)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        projected = projected_optimizer(self.optimizer)
        if self.args.should_save and projected is not None and self.options_in_force is not None:
            radii = (self._saved_radii or {}).get(self.state.global_step, {})
            self.options_in_force.save(projected, Path(output_dir), radii)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        projected = projected_optimizer(self.optimizer)
        if checkpoint is None or projected is None or self.options_in_force is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        excluded = excluded_names(projected)
        self.options_in_force.take_up_added(projected)
        super()._load_optimizer_and_scheduler(checkpoint)
        if has_optimizer_state(Path(checkpoint)):
            self.options_in_force.resume(projected, Path(checkpoint), self.state.global_step, excluded)

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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        As `Trainer.save_model`.

        Raises:
            FloatingPointError: the weights are not finite any more.
        """
        projected = projected_optimizer(self.optimizer)
        if projected is not None and self._radii_of_finite_weights():
            check_weights(projected.param_groups, self.state.global_step)
        super().save_model(output_dir, _internal_call)

    def _radii_of_finite_weights(self) -> dict[str, Radius]:
        projected = projected_optimizer(self.optimizer)
        radii = {} if projected is None else projected.radii()
        check_finite(radii, self.state.global_step)
        return radii


def _excluded(optimizer: Optimizer) -> list[str]:
    return list(dict.fromkeys(pattern for group in optimizer.param_groups for pattern in group.get("exclude", ())))


class FTPTrainer(FTPTrainerMixin, Trainer):
    """
    `Trainer` with Fast Trainable Projection around its optimizer. Takes the arguments of `Trainer`; with
    [`FTPTrainingArguments`] the projection has options.

    Example:
        ```python
        trainer = FTPTrainer(model=model, args=FTPTrainingArguments("runs/ftp", ftp_kappa=0.5), train_dataset=dataset)
        ```
    """


def ftp_trainer(base: type[Trainer]) -> type[Trainer]:
    """[`FTPTrainerMixin`] on any Trainer class, such as `Seq2SeqTrainer`."""
    return FTPTrainer if base is Trainer else type(f"FTP{base.__name__}", (FTPTrainerMixin, base), {})
